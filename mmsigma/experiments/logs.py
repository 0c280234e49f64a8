"""What the log of a run says: training, validations, the final test, and how far the run is."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BY_CLASS = 'IoU/'  # as mmsigma.IoUMetric calls them, which takes seconds to import
_NO_METRIC = {'step', 'iter', 'epoch', 'time', 'data_time', 'memory'}


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: Iterations in the log, by all its starts.
        validated: Step of the last validation.
        metric: Of that validation; None before the first one.
    """

    step: int = 0
    validated: int = 0
    metric: float | None = None


def scalars(work_dir: Path) -> tuple[list[dict], list[dict], dict | None]:
    """All lines of the log of a run, resumed or not.

    Args:
        work_dir: The run's folder; its log folders are named by the time when they began.

    Returns:
        Training lines and validation lines, by step, those of a later start in place of earlier
        ones, and the line of the final test if the run came to its end.
    """
    train: dict[int, dict] = {}
    validation: dict[int, dict] = {}
    test = None
    for folder in sorted(path for path in work_dir.glob('*_*') if path.is_dir()):
        for line in _lines(folder / 'vis_data/scalars.json'):
            (train if 'loss' in line else validation)[line['step']] = line
        for line in _lines(folder / f'{folder.name}.json'):
            test = line
    return [train[n] for n in sorted(train)], [validation[n] for n in sorted(validation)], test


def _lines(path: Path) -> Iterator[dict]:
    """JSON lines of a file, without one that a kill left half-written."""
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def progress(work_dir: Path, metric: str) -> Progress:
    """How far the run in a folder, which need not exist, is.

    Args:
        work_dir: The run's folder.
        metric: Name of a metric of its validations.
    """
    train, validation, _ = scalars(work_dir)
    line: dict = next((line for line in reversed(validation) if metric in line), {})
    return Progress(train[-1]['step'] if train else 0, line.get('step', 0), line.get(metric))


def metrics(line: Mapping[str, Any]) -> dict[str, float | None]:
    """Metrics of an evaluation, without times, steps and classes; None for what is not finite."""
    return {
        name: _finite(value)
        for name, value in line.items()
        if name not in _NO_METRIC
        and not name.startswith(_BY_CLASS)
        and isinstance(value, int | float)
    }


def by_class(line: Mapping[str, Any]) -> dict[str, float | None]:
    """IoU by class of an evaluation; None for a class that neither truth nor predictions hold."""
    return {
        name.removeprefix(_BY_CLASS): _finite(value)
        for name, value in line.items()
        if name.startswith(_BY_CLASS)
    }


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
