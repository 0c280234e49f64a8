"""The record of a run: what was run, where, and what came out, as one small JSON file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsigma.checkpoint.atomic_write import write
from mmsigma.config import setting
from mmsigma.engine import tuner_code
from mmsigma.engine.environment import commit, environment
from mmsigma.errors import InvalidSettingError, NonFiniteLossError, UnknownNameError, unknown
from mmsigma.experiments import logs, protocol
from mmsigma.experiments.grid import Run
from mmsigma.experiments.metrics import named

if TYPE_CHECKING:
    from mmengine.config import Config

    from mmsigma.experiments.jobs import Job


def state(run: Run, folder: Path) -> str:
    """``open``, ``finished``, or what is wrong with the run or with the record of its name."""
    if run.problem:
        return run.problem
    path = folder / f'{run.name}.json'
    if not path.exists():
        return 'open'
    try:
        saved = json.loads(path.read_text())['config']
    except (ValueError, KeyError, TypeError) as error:
        return f'{path} is no record ({type(error).__name__}: {error}); remove it to run it anew'
    if saved != run.hash:
        return (
            f'{path} is the record of another config ({saved}, this is {run.hash}); remove it to '
            'run it anew, or give --records another folder'
        )
    return 'finished'


def has_test(config: Config) -> bool:
    """Whether a run of this config evaluates its test split after training."""
    hooks = [str(hook['type']) for hook in config.get('custom_hooks') or []]
    return 'FinalTestHook' in {name.removeprefix('mmsigma.') for name in hooks} and all(
        config.get(f'test_{part}') for part in ('dataloader', 'cfg', 'evaluator')
    )


def held_out(config: Config) -> bool:
    """Whether the final test of a run sees other images than its validations do."""
    if not has_test(config):
        return False
    validation, test = (
        {**config[f'{split}_dataloader']['dataset'], 'pipeline': None} for split in ('val', 'test')
    )
    return validation != test


def make(job: Job, metric: str, counts: Mapping[str, float], processes: int = 1) -> dict[str, Any]:
    """The record of a finished run, as plain JSON values.

    ``last`` and ``best`` are the validations after the last step and after the one with the best
    ``metric``. ``test`` holds the metrics of the final test, or None where the run has none;
    ``held_out`` says whether that test sees other images than the validations do. ``commit`` names
    the code that the run was started with, and resumed with; ``protocol`` is what other runs of a
    table must share with it.

    Args:
        job: That ran it.
        metric: What the grid compares, a metric of every validation.
        counts: Of :func:`mmsigma.apis.params.count`.
        processes: That shared the batch.

    Raises:
        InvalidSettingError: The log has no final test or no validation after the last step: the run
            did not come to its end. Or it has no such metric.
        NonFiniteLossError: The metric after the last step is not finite.
    """
    run, work_dir = job.run, job.work_dir
    train, validation, test = logs.scalars(work_dir)
    last = run.steps
    if not train or not validation or (last and validation[-1]['step'] != last):
        raise InvalidSettingError(
            f'{work_dir} holds no log of a complete run, with a validation after its last step.'
        )
    if test is None and has_test(run.config):
        raise InvalidSettingError(f'{work_dir} holds no log of a complete run with a final test.')
    lines = [{'step': line['step'], **logs.metrics(line)} for line in validation]
    known = logs.metrics(validation[-1])
    if metric not in known:
        none = '' if known else 'A detector that finds nothing at all has none.'
        raise UnknownNameError(unknown('metric', metric, known, none))
    if known[metric] is None:
        raise NonFiniteLossError(
            f'{metric} of the validation after step {validation[-1]["step"]} is not finite.'
        )
    by_class = {'validation': logs.by_class(validation[-1]), 'test': logs.by_class(test or {})}
    resident = [] if job.resident is None else [round(job.resident / 2**20)]
    memory = [line['memory'] for line in train if 'memory' in line] or resident
    config = run.config.to_dict()
    return {
        'run': run.name,
        'method': run.method,
        'rate': run.rate,
        'inner_rate': run.inner,
        'seed': run.seed,
        'config': run.hash,
        'metric': metric,
        'validation': lines,
        'last': lines[-1],
        'best': named(metric).best_line(lines),
        'test': None if test is None else logs.metrics(test),
        'held_out': held_out(run.config),
        'by_class': {split: scores for split, scores in by_class.items() if scores},
        'setting': setting.of(run.config),
        'protocol': protocol.of(config, run.own)
        | {'code': ', '.join(marked(work_dir, 'code')) or tuner_code.code(config)},
        'trained_parameters': counts['trained'] - counts['neck'] - counts['head'],
        'share_percent': counts['share_percent'],
        'seconds_per_step': round(statistics.median(line['time'] for line in train), 4),
        'peak_memory_mib': max(memory, default=None),
        'wall_seconds': round(job.wall, 1),
        'finished': datetime.now(UTC).isoformat(timespec='seconds'),
        'processes': processes,
        'commit': ', '.join(marked(work_dir, 'commits')) or commit(),
        **environment(int(job.environment.get('OMP_NUM_THREADS', 0)) or None),
    }


def marked(work_dir: Path, kind: str) -> list[str]:
    """``commits`` that a run was started with, or hashes of its tuner's ``code``; each once."""
    path = work_dir / kind
    return path.read_text().split() if path.exists() else []


def mark(work_dir: Path, config: Config) -> None:
    """Note what code a run starts with, now: other may come while it goes on."""
    for kind, now in (('commits', commit()), ('code', tuner_code.code(config.to_dict()))):
        known = marked(work_dir, kind)
        if now and now not in known:
            write(work_dir / kind, '\n'.join([*known, now]).encode())
