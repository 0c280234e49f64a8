"""Plots of the rows of a table.

Matplotlib is imported inside: only pictures need it. Each function gives a ``Figure`` or, where the
records lack what it shows, None.
"""

import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmsigma.checkpoint.atomic_write import write
from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown
from mmsigma.experiments.metrics import named
from mmsigma.experiments.plot_labels import name_ends, name_points
from mmsigma.experiments.tables import Row

OURS, OTHERS, GREY = '#c0392b', '#34608f', '#888888'
MARKERS = 'osD^vPX*<>'
CLASSES = 40  # at most, in one plot


def save(figure: Any, path: str | Path) -> None:
    """Write a figure as a PNG.

    Raises:
        InvalidSettingError: There is no figure: the records lack what it shows.
    """
    if figure is None:
        raise InvalidSettingError(f'The records lack what the plot {path} would show.')
    write(path, png(figure))


def png(figure: Any) -> bytes:
    """A figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    # Without the version of Matplotlib, which may change while the picture does not.
    figure.savefig(buffer, format='png', metadata={'Software': None})
    return buffer.getvalue()


def _figure(width: float = 7.2, height: float = 4.4) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)  # which measures labels
    return figure


def labels(rows: Sequence[Row]) -> list[str]:
    """What to call each row: its method, and its trunk where there are several."""
    several = len({row.trunk for row in rows}) > 1
    return [row.name if several else row.method for row in rows]


def _ours(row: Row) -> bool:
    return row.method.startswith('sigma')


def _split(rows: Sequence[Row], name: str) -> str:
    return 'test' if any(row.scores[name].test for row in rows) else 'val'


def against_share(rows: Sequence[Row], name: str) -> Any:
    """A metric against the trained share, on a logarithmic axis; dashed where nothing trains."""
    figure = _scatter(rows, name, [row.share for row in rows])
    if figure is not None:
        (axes,) = figure.axes
        axes.set_xlabel('trained parameters, % of the trunk')
    return figure


def against_time(rows: Sequence[Row], name: str) -> Any:
    """A metric against the seconds of a training step."""
    figure = _scatter(rows, name, [row.seconds for row in rows], log=False)
    if figure is not None:
        (axes,) = figure.axes
        axes.set_xlabel('seconds per training step')
    return figure


def _scatter(
    rows: Sequence[Row], name: str, positions: Sequence[float | None], log: bool = True
) -> Any:
    metric, split = named(name), _split(rows, name)
    points = []
    levels = []
    for row, place, label in zip(rows, positions, labels(rows), strict=True):
        values = row.scores[name].test if split == 'test' else row.scores[name].last
        if not values:
            continue
        if place:
            points.append((row, place, statistics.mean(values), _deviation(values), label))
        elif place is not None:  # no place on a logarithmic axis
            levels.append((statistics.mean(values), label))
    if not points:
        return None
    figure = _figure()
    axes = figure.add_subplot()
    if log:
        axes.set_xscale('log')
        axes.xaxis.set_major_formatter('{x:g}')
    trunks = list(dict.fromkeys(row.trunk for row in rows))
    for row, place, mean, deviation, _ in points:
        marker = MARKERS[trunks.index(row.trunk) % len(MARKERS)]
        colour, size = (OURS, 7) if _ours(row) else (OTHERS, 5)
        axes.errorbar(place, mean, yerr=deviation or None, color=colour, capsize=2, marker=marker,
                      markersize=size, linewidth=1, zorder=3)  # fmt: skip
    for level, label in levels:
        axes.axhline(level, color=GREY, linestyle='--', linewidth=1)
        axes.annotate(label, (1, level), xycoords=('axes fraction', 'data'), fontsize=8,
                      xytext=(-4, 3), textcoords='offset points', ha='right')  # fmt: skip
    axes.margins(0.08, 0.1)
    axes.set_ylabel(f'{split} {metric.label}')
    axes.grid(alpha=0.3)
    name_points(
        axes,
        [(place, mean) for _, place, mean, _, _ in points],
        [label for *_, label in points],
        [level for level, _ in levels],
    )
    return figure


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def curves(rows: Sequence[Row], name: str) -> Any:
    """Validations over the steps of training, at each method's rate, mean over seeds."""
    metric = named(name)
    lines = []
    for row, label in zip(rows, labels(rows), strict=True):
        steps: dict[int, list[float]] = {}
        for run in row.runs:
            for line in run['validation']:
                if line.get(name) is not None:
                    steps.setdefault(line['step'], []).append(line[name] * metric.scale)
        if len(steps) > 1:
            places = sorted(steps)
            lines.append((row, places, [statistics.mean(steps[step]) for step in places], label))
    if not lines:
        return None
    figure = _figure(height=max(4.4, 0.2 * len(lines)))
    axes = figure.add_subplot()
    colours = _colours([row for row, *_ in lines])
    for (row, places, means, _), colour in zip(lines, colours, strict=True):
        axes.plot(places, means, color=colour, marker='.', linewidth=2.2 if _ours(row) else 1.2,
                  zorder=3 if _ours(row) else 2)  # fmt: skip
    axes.set_xlabel('training steps')
    axes.set_ylabel(f'val {metric.label}')
    axes.grid(alpha=0.3)
    name_ends(axes, [(p[-1], m[-1]) for _, p, m, _ in lines], [x[-1] for x in lines], colours)
    return figure


def _colours(rows: Sequence[Row]) -> list[Any]:
    """SIGMA in its red, the others in colours without red, all dark enough for text on white."""
    from matplotlib import colormaps

    others = [row for row in rows if not _ours(row)]
    scale = colormaps['viridis'](np.linspace(0, 0.75, max(len(others), 1)))
    found = iter(scale)
    return [OURS if _ours(row) else next(found) for row in rows]


def by_class(rows: Sequence[Row], reference: str) -> Any:
    """Differences of IoU by class to a reference method, in points; mean over seeds.

    Args:
        rows: Of a table; those without values by class are left out.
        reference: The method to compare with.

    Returns:
        A figure with a line per method and a column per class, at most :data:`CLASSES` of them,
        those that differ most; None where the reference or all others have no values.

    Raises:
        UnknownNameError: There is no such method.
    """
    if reference not in {row.method for row in rows}:
        raise UnknownNameError(unknown('method', reference, [row.method for row in rows]))
    found = {split: _all_classes(rows, split) for split in ('test', 'validation')}
    split = 'test' if found['test'] else 'validation'
    values = found[split]
    bases = {rows[i].trunk: i for i in values if rows[i].method == reference}
    pairs = []
    for number, label in enumerate(labels(rows)):
        base = bases.get(rows[number].trunk)
        if number in values and base is not None and base != number:
            pairs.append((label, values[number], values[base]))
    if not pairs:
        return None
    classes = list(dict.fromkeys(name for _, own, _ in pairs for name in own))
    grid = np.array(
        [[own.get(c, np.nan) - base.get(c, np.nan) for c in classes] for _, own, base in pairs]
    )
    kept = [i for i in range(len(classes)) if not np.isnan(grid[:, i]).all()]
    if not kept:
        return None
    if len(kept) > CLASSES:
        kept = sorted(sorted(kept, key=lambda i: -np.nanmax(np.abs(grid[:, i])))[:CLASSES])
    return _heat(grid[:, kept], [p[0] for p in pairs], [classes[i] for i in kept],
                 f'{split} IoU by class, points above {reference}', len(classes))  # fmt: skip


def _all_classes(rows: Sequence[Row], split: str) -> dict[int, dict[str, float]]:
    """By number of the row, IoU by class as the mean over its seeds."""
    found = {}
    for number, row in enumerate(rows):
        runs = [(run.get('by_class') or {}).get(split) or {} for run in row.runs]
        if all(runs):
            found[number] = {
                name: statistics.mean(run[name] for run in runs)
                for name in runs[0]
                if all(run.get(name) is not None for run in runs)
            }
    return found


def _heat(
    grid: np.ndarray, methods: Sequence[str], classes: Sequence[str], title: str, total: int
) -> Any:
    figure = _figure(2.4 + 0.42 * len(classes), 1.6 + 0.28 * len(methods))
    axes = figure.add_subplot()
    # Beyond the bulk of the differences, colours say no more; the numbers do.
    limit = max(float(np.nanpercentile(np.abs(grid), 95)), 0.1)
    image = axes.imshow(grid, cmap='RdBu', vmin=-limit, vmax=limit, aspect='auto')
    axes.set_xticks(range(len(classes)), classes, rotation=60, ha='right', rotation_mode='anchor',
                    fontsize=8)  # fmt: skip
    axes.set_yticks(range(len(methods)), methods, fontsize=8)
    for (y, x), value in np.ndenumerate(grid):
        if not np.isnan(value):
            dark = abs(value) > 0.65 * limit
            axes.text(x, y, f'{value:+.1f}', ha='center', va='center', fontsize=6,
                      color='white' if dark else 'black')  # fmt: skip
    axes.set_title(
        title + (f'; {len(classes)} of {total} classes' if total > len(classes) else ''), fontsize=9
    )
    figure.colorbar(image, ax=axes, extend='both', fraction=0.05, pad=0.02)
    return figure
