"""The record of a run: what was run, where, and what came out, as one small JSON file."""

from __future__ import annotations

import json
import math
import platform
import statistics
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsigma.checkpoint.atomic_write import write
from mmsigma.dependencies import REQUIREMENTS, installed
from mmsigma.errors import InvalidSettingError, NonFiniteLossError, UnknownNameError, unknown
from mmsigma.experiments import class_scores, protocol, setting
from mmsigma.experiments.grid import Run
from mmsigma.experiments.metrics import named
from mmsigma.version import __version__

if TYPE_CHECKING:
    from mmengine.config import Config

# Import name -> names of the distribution, of what a record tells the version where it is there.
_PACKAGES = {
    **{name: distributions for name, (distributions, _, _) in REQUIREMENTS.items()},
    'numpy': ('numpy',),
    'peft': ('peft',),
}
_NO_METRIC = {'step', 'iter', 'epoch', 'time', 'data_time', 'memory'}


def scalars(work_dir: Path) -> tuple[list[dict], list[dict], dict[str, float | None] | None]:
    """What the log of a run, resumed or not, says: training, validations and the final test.

    Args:
        work_dir: The run's folder; its log folders are named by the time when they began.

    Returns:
        Training lines and validation lines, by step, those of a later start in place of earlier
        ones, and the test metrics if the run came to its end.
    """
    train: dict[int, dict] = {}
    validation: dict[int, dict] = {}
    test = None
    for folder in sorted(path for path in work_dir.glob('*_*') if path.is_dir()):
        for line in _lines(folder / 'vis_data/scalars.json'):
            (train if 'loss' in line else validation)[line['step']] = line
        for line in _lines(folder / f'{folder.name}.json'):
            test = metrics(line)
    ordered = [[lines[step] for step in sorted(lines)] for lines in (train, validation)]
    return ordered[0], ordered[1], test


def _lines(path: Path) -> Iterable[dict]:
    """JSON lines of a file, without one that a kill left half-written."""
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def metrics(line: dict[str, Any]) -> dict[str, float | None]:
    """The metrics in a line of a log, without times and steps; None for what is not finite."""
    return {
        name: round(value, 4) if math.isfinite(value) else None
        for name, value in line.items()
        if name not in _NO_METRIC and isinstance(value, int | float)
    }


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


def make(
    run: Run,
    metric: str,
    work_dir: Path,
    counts: dict[str, float],
    wall: float,
    resident: int | None,
    processes: int = 1,
    threads: int | None = None,
) -> dict[str, Any]:
    """The record of a finished run.

    Args:
        run: What was run.
        metric: What the grid compares, a metric of every validation.
        work_dir: Its folder.
        counts: Of :func:`mmsigma.apis.params.count`.
        wall: Seconds that its processes took, all starts together.
        resident: Peak resident bytes of the training process, or None where it is not known.
        processes: That shared the batch.
        threads: Of each process, where it runs on a CPU; None for PyTorch's own choice.

    Returns:
        Plain JSON values. ``last`` and ``best`` are the validations after the last step and after
        the one with the best ``metric``. ``test`` holds the metrics of the final test, or None
        where the run has none; ``held_out`` says whether that test sees other images than the
        validations do. ``commit`` names the code that the run was started with, and resumed with;
        ``protocol`` is what other runs of a table must share with it.

    Raises:
        InvalidSettingError: The log has no final test or no validation after the last step: the run
            did not come to its end. Or it has no such metric.
        NonFiniteLossError: The metric after the last step is not finite.
    """
    train, validation, test = scalars(work_dir)
    last = run.steps
    if not train or not validation or (last and validation[-1]['step'] != last):
        raise InvalidSettingError(
            f'{work_dir} holds no log of a complete run, with a validation after its last step.'
        )
    if test is None and has_test(run.config):
        raise InvalidSettingError(f'{work_dir} holds no log of a complete run with a final test.')
    evaluations = [metrics(line) for line in validation]
    if metric not in evaluations[-1]:
        none = '' if evaluations[-1] else 'A detector that finds nothing at all has none.'
        raise UnknownNameError(unknown('metric', metric, evaluations[-1], none))
    if evaluations[-1][metric] is None:
        raise NonFiniteLossError(
            f'{metric} of the validation after step {validation[-1]["step"]} is not finite.'
        )
    steps = [line['step'] for line in validation]
    lines = [{'step': s, **values} for s, values in zip(steps, evaluations, strict=True)]
    allocated = [line['memory'] for line in train if 'memory' in line]
    config = run.config.to_dict()
    mib = max(allocated) if allocated else None if resident is None else round(resident / 2**20)
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
        'test': test,
        'held_out': held_out(run.config),
        'by_class': class_scores.read(work_dir),
        'setting': setting.of(run.config),
        'protocol': protocol.of(config, run.own)
        | {'code': ', '.join(marked(work_dir, 'code')) or protocol.code(config)},
        'trained_parameters': counts['trained'] - counts['neck'] - counts['head'],
        'share_percent': counts['share_percent'],
        'seconds_per_step': round(statistics.median(line['time'] for line in train), 4),
        'peak_memory_mib': mib,
        'wall_seconds': round(wall, 1),
        'finished': datetime.now(UTC).isoformat(timespec='seconds'),
        'processes': processes,
        'commit': ', '.join(marked(work_dir, 'commits')) or commit(),
        **environment(threads),
    }


def commit() -> str | None:
    """Of this code, with a + where files differ from it; None outside a repository."""
    try:
        git = subprocess.run(
            ['git', 'describe', '--always', '--dirty=+'],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:  # no git
        return None
    return git.stdout.strip() or None


def marked(work_dir: Path, kind: str) -> list[str]:
    """``commits`` that a run was started with, or hashes of its tuner's ``code``; each once."""
    path = work_dir / kind
    return path.read_text().split() if path.exists() else []


def mark(work_dir: Path, config: Config) -> None:
    """Note what code a run starts with, now: other may come while it goes on."""
    for kind, now in (('commits', commit()), ('code', protocol.code(config.to_dict()))):
        known = marked(work_dir, kind)
        if now and now not in known:
            write(work_dir / kind, '\n'.join([*known, now]).encode())


def environment(threads: int | None = None) -> dict[str, Any]:
    """Versions and hardware; on a CPU the threads, this process's unless given."""
    import mmengine
    import torch
    from mmengine.device import get_device

    found = {name: installed(distributions) for name, distributions in _PACKAGES.items()}
    on_gpu = get_device() == 'cuda'
    return {
        'versions': {
            'mmsigma': __version__,
            'python': platform.python_version(),
            **{name: text for name, text in found.items() if text},
            'torch': torch.__version__,  # which also tells the CUDA version
            'mmengine': mmengine.__version__,
        },
        'device': torch.cuda.get_device_name() if on_gpu else _processor(),
        'threads': None if on_gpu else threads or torch.get_num_threads(),
    }


def _processor() -> str:
    info = Path('/proc/cpuinfo')
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith('model name'):
            return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()
