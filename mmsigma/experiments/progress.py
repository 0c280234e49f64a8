"""How far a run is, from the log that it writes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TAIL = 1 << 16


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: Iterations in the log, by all its starts.
        metric: Of the last validation; None before the first one.
        validated: Step of that validation.
        seconds_left: For the iterations that are left, at the pace of the last ones, evaluations
            not counted; None where the log does not say.
    """

    step: int = 0
    metric: float | None = None
    seconds_left: float | None = None
    validated: int = 0


def read(work_dir: Path, metric: str, total: int | None) -> Progress:
    """The progress of the run in a folder.

    Args:
        work_dir: The run's folder; it need not exist.
        metric: Name of a metric of its validations.
        total: Iterations of the whole run, or None if it does not count them.
    """
    step, score, seconds, validated = 0, None, None, 0
    for line in _backwards(work_dir):
        if not step and 'loss' in line:
            step, seconds = line['step'], line.get('time')
        if score is None and metric in line:
            score, validated = line[metric], line['step']
        if step and score is not None:
            break
    left = None if not step or seconds is None or total is None else (total - step) * seconds
    return Progress(step, score, left, validated)


def _backwards(work_dir: Path) -> Iterator[dict]:
    """Lines of the log, from the last; of each start the last 64 KiB, which is hundreds."""
    for path in sorted(work_dir.glob('*/vis_data/scalars.json'), reverse=True):
        with path.open('rb') as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            lines = file.read().splitlines()
        for line in reversed(lines):
            try:
                yield json.loads(line)
            except ValueError:  # cut off at either end
                continue


def clock(seconds: float | None) -> str:
    """``h:mm:ss``, or nothing."""
    if seconds is None:
        return ''
    minutes, seconds = divmod(round(seconds), 60)
    return f'{minutes // 60}:{minutes % 60:02}:{seconds:02}'
