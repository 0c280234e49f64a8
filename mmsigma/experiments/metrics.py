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

    def best_line(self, lines: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """The first of the lines that have the best finite value of this metric, None if none has.

        Args:
            lines: Metrics by name, one line for each validation.
        """
        finite = [x for x in lines if x.get(self.name) is not None and math.isfinite(x[self.name])]
        best = min if self.lower else max
        return best(finite, key=lambda line: line[self.name], default=None)

    def shown(self, line: Mapping[str, Any]) -> float:
        """The value of a line as tables show it.

        Args:
            line: Metrics by name, with None for what was not finite.

        Returns:
            NaN where the line lacks it, the worse infinity for what was not finite.
        """
        if self.name not in line:
            return math.nan
        value = line[self.name]
        if value is None or not math.isfinite(value):
            return math.inf if self.lower else -math.inf
        return value * self.scale


def named(name: str) -> Metric:
    """The metric of a name; an unknown one counts as a percentage, the more the better."""
    if name.startswith(_FRACTIONS):
        return Metric(name, name.partition('/')[2], scale=100.0)
    short = name.rpartition('/')[2]
    if short in _ERRORS | _ACCURACIES:
        return Metric(name, name, digits=3, lower=short in _ERRORS)
    return Metric(name, name)
