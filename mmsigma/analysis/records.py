"""The record of a run: what was run, where, and what came out, as one small JSON file."""

import json
import platform
import statistics
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.device import get_device

from mmsigma.analysis import classes, setting
from mmsigma.analysis.grid import Run
from mmsigma.errors import InvalidSettingError
from mmsigma.version import __version__

_NO_METRIC = {'step', 'iter', 'epoch', 'time', 'data_time', 'memory'}


def scalars(work_dir: Path) -> tuple[list[dict], list[dict], dict[str, float] | None]:
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


def metrics(line: dict[str, Any]) -> dict[str, float]:
    """The metrics in a line of a log, without times and steps."""
    return {name: round(value, 4) for name, value in line.items() if name not in _NO_METRIC}


def make(
    run: Run, work_dir: Path, counts: dict[str, float], wall: float, resident: int | None
) -> dict[str, Any]:
    """The record of a finished run.

    Args:
        run: What was run.
        work_dir: Its folder.
        counts: Of :func:`mmsigma.analysis.params.count`.
        wall: Seconds that its processes took, all starts together.
        resident: Peak resident bytes of the training process, or None where it is not known.

    Raises:
        InvalidSettingError: The log has no final test: the run did not come to its end, or its
            config has no ``FinalTestHook``.
    """
    train, validation, test = scalars(work_dir)
    if test is None or not train:
        raise InvalidSettingError(f'{work_dir} holds no log of a complete run with a final test.')
    allocated = [line['memory'] for line in train if 'memory' in line]
    mib = max(allocated) if allocated else None if resident is None else round(resident / 2**20)
    return {
        'run': run.name,
        'method': run.method,
        'rate': run.rate,
        'seed': run.seed,
        'config': run.hash,
        'validation': [{'step': line['step'], **metrics(line)} for line in validation],
        'test': test,
        'by_class': classes.read(work_dir),
        'setting': setting.of(run.config),
        'trained_parameters': counts['trained'] - counts['neck'] - counts['head'],
        'share_percent': counts['share_percent'],
        'seconds_per_step': round(statistics.median(line['time'] for line in train), 4),
        'peak_memory_mib': mib,
        'wall_seconds': round(wall, 1),
        'finished': datetime.now(UTC).isoformat(timespec='seconds'),
        **environment(),
    }


def environment() -> dict[str, Any]:
    """Commit, versions and hardware of this process."""
    git = subprocess.run(
        ['git', 'describe', '--always', '--dirty'],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    on_gpu = get_device() == 'cuda'
    return {
        'commit': git.stdout.strip() or None,
        'versions': {
            'mmsigma': __version__,
            'torch': torch.__version__,
            'mmengine': mmengine.__version__,
            'python': platform.python_version(),
        },
        'device': torch.cuda.get_device_name() if on_gpu else _processor(),
        'threads': None if on_gpu else torch.get_num_threads(),
    }


def _processor() -> str:
    info = Path('/proc/cpuinfo')
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith('model name'):
            return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()
