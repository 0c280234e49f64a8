"""How a metric is read: what is better, and how it is written."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# mmdet gives these as fractions of one; tables show percent, as papers do.
_FRACTIONS = ('coco/', 'lvis/', 'pascal_voc/')
# Of mmseg's DepthMetric; `d1` to `d3` are accuracies, the others errors.
_ERRORS = {'abs_rel', 'sq_rel', 'rmse', 'rmse_log', 'log10', 'silog'}
_ACCURACIES = {'d1', 'd2', 'd3'}


@dataclass(frozen=True)
class Metric:
    """A metric by its name in records.

    Attributes:
        name: E.g. ``mIoU`` or ``coco/bbox_mAP``.
        label: What tables and plots call it.
        scale: From recorded values to shown ones.
        digits: Behind the point, of shown values.
        lower: Whether less is better.
    """

    name: str
    label: str
    scale: float = 1.0
    digits: int = 1
    lower: bool = False

    def best(self, values: Iterable[float]) -> float:
        """The best of some values; there must be one."""
        return min(values) if self.lower else max(values)

    def best_line(self, lines: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """The first of the lines that have the best finite value of this metric, None if none has.

        Args:
            lines: Metrics by name, one line for each validation.
        """
        finite = [x for x in lines if x.get(self.name) is not None and math.isfinite(x[self.name])]
        if not finite:
            return None
        wanted = self.best(line[self.name] for line in finite)
        return next(line for line in finite if line[self.name] == wanted)

    def text(self, value: float) -> str:
        """A shown value."""
        return f'{value:.{self.digits}f}'


def named(name: str) -> Metric:
    """The metric of a name; an unknown one counts as a percentage, the more the better."""
    if name.startswith(_FRACTIONS):
        return Metric(name, name.partition('/')[2], scale=100.0)
    short = name.rpartition('/')[2]
    if short in _ERRORS | _ACCURACIES:
        return Metric(name, name, digits=3, lower=short in _ERRORS)
    return Metric(name, name)
