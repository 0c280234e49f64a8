"""Two plots of methods: what they reach by what they train, and how they learn.

Matplotlib is imported inside: only pictures need it. Each function gives a ``Figure`` or, where the
records lack what it shows, None.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsigma.checkpoint.atomic_write import write
from mmsigma.errors import InvalidSettingError
from mmsigma.experiments.tables import METHOD, Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS, OTHERS, GREY = '#c0392b', '#34608f', '#888888'
MARKERS = 'osD^vPX*<>'


def save(figure: Figure | None, path: str | Path) -> None:
    """Write a figure as a PNG.

    Raises:
        InvalidSettingError: There is no figure: the records lack what it shows.
    """
    if figure is None:
        raise InvalidSettingError(f'The records lack what the plot {path} would show.')
    buffer = io.BytesIO()
    # Without the version of Matplotlib, which may change while the picture does not.
    figure.savefig(buffer, format='png', metadata={'Software': None})
    write(path, buffer.getvalue())


def _axes(height: float = 4.4) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, height), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)  # which measures labels
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    return axes


def _ours(method: str) -> bool:
    return method.startswith('sigma')


def against_share(comparison: Comparison) -> Figure | None:
    """The first metric against the trained share, logarithmic; dashed where nothing trains."""
    from adjustText import adjust_text

    metric, names = comparison.metrics[0], comparison.labels
    split = 'test' if comparison.over_seeds(f'test {metric.name}')['mean'].notna().any() else 'last'
    found = comparison.over_seeds(f'{split} {metric.name}')
    found = found.assign(share=comparison.first_runs.share)[found['mean'].abs() < math.inf]
    points, levels = found[found.share > 0], found[found.share == 0]
    if points.empty:
        return None
    axes = _axes()
    axes.set_xscale('log')
    axes.xaxis.set_major_formatter('{x:g}')
    trunks = list(dict.fromkeys(trunk for _, trunk in names))
    texts = []
    for (method, trunk), point in points.iterrows():
        marker = MARKERS[trunks.index(trunk) % len(MARKERS)]
        colour, size = (OURS, 7) if _ours(method) else (OTHERS, 5)
        axes.errorbar(point.share, point['mean'], yerr=point['std'], color=colour, capsize=2,
                      marker=marker, markersize=size, linewidth=1, zorder=3)  # fmt: skip
        texts.append(axes.text(point.share, point['mean'], names[method, trunk], fontsize=8))
    for name, level in levels.iterrows():
        axes.axhline(level['mean'], color=GREY, linestyle='--', linewidth=1)
        axes.annotate(names[name], (1, level['mean']), xycoords=('axes fraction', 'data'),
                      fontsize=8, xytext=(-4, 3), textcoords='offset points',
                      ha='right')  # fmt: skip
    axes.margins(0.08, 0.1)
    axes.set_xlabel('trained parameters, % of the trunk')
    axes.set_ylabel(f'{"test" if split == "test" else "val"} {metric.label}')
    axes.figure.draw_without_rendering()  # settles the layout, and with it where points are
    back = axes.transData.inverted()
    taken = [text.get_window_extent().transformed(back) for text in axes.texts[len(texts) :]]
    adjust_text(texts, ax=axes, objects=taken or None, expand=(1.1, 1.5), iter_lim=1000,
                arrowprops={'arrowstyle': '-', 'lw': 0.5, 'color': GREY})  # fmt: skip
    return axes.figure


def curves(comparison: Comparison) -> Figure | None:
    """Validations of the first metric over the steps of training, mean over seeds."""
    import pandas

    metric, names = comparison.metrics[0], comparison.labels
    lines = [
        {**run[METHOD], 'step': line['step'], 'value': metric.shown(line)}
        for _, run in comparison.runs.iterrows()
        for line in run.record['validation']
    ]
    found = pandas.DataFrame(lines)
    found = found[found['value'].abs() < math.inf].groupby([*METHOD, 'step'])['value'].mean()
    means = [(name, found[name]) for name in names if name in found and len(found[name]) > 1]
    if not means:
        return None
    means.sort(key=lambda pair: pair[1].iloc[-1], reverse=not metric.lower)  # as they end
    axes = _axes(max(4.4, 0.2 * len(means)))
    colours = _colours([method for (method, _), _ in means])
    for (name, line), colour in zip(means, colours, strict=True):
        width, order = (2.2, 3) if _ours(name[0]) else (1.2, 2)
        axes.plot(line, color=colour, marker='.', label=names[name], linewidth=width, zorder=order)
    axes.set_xlabel('training steps')
    axes.set_ylabel(f'val {metric.label}')
    axes.figure.legend(loc='outside right center', fontsize=8)
    return axes.figure


def _colours(methods: Sequence[str]) -> list[Any]:
    """SIGMA in its red, the others in colours without red, all dark enough on white."""
    from matplotlib import colormaps

    others = sum(not _ours(method) for method in methods)
    found = iter(colormaps['viridis'](0.75 * i / max(others - 1, 1)) for i in range(max(others, 1)))
    return [OURS if _ours(method) else next(found) for method in methods]
