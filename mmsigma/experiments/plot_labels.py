"""Names of points and lines in a plot, where they cover neither each other nor a point."""

from collections.abc import Sequence
from typing import Any

# Of a label's corner or edge that is next to its point: towards the right, left, and so on.
_SIDES = [
    (1, 1), (1, 0), (1, -1), (0, 1), (0, -1), (-1, 1), (-1, 0), (-1, -1)
]  # fmt: skip
_ALIGNED = {1: ('left', 'bottom'), 0: ('center', 'center'), -1: ('right', 'top')}

Box = tuple[float, float, float, float]


def name_points(
    axes: Any,
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    levels: Sequence[float] = (),
) -> None:
    """Write a name beside each point, on the side and at the distance that covers least.

    Args:
        axes: Of Matplotlib, with everything else in place, in a figure with a canvas.
        points: In the units of the axes.
        names: One per point.
        levels: Heights of lines across the axes, in their units.
    """
    figure = axes.figure
    figure.draw_without_rendering()  # settles the layout, and with it where points are
    renderer = figure.canvas.get_renderer()
    places = [tuple(axes.transData.transform(point)) for point in points]
    pixel = figure.dpi / 72
    frame = _box(axes.get_window_extent(renderer))
    taken = [(x - 4 * pixel, y - 4 * pixel, x + 4 * pixel, y + 4 * pixel) for x, y in places]
    taken += [_box(text.get_window_extent(renderer)) for text in axes.texts]
    for level in levels:
        height = axes.transData.transform((points[0][0], level))[1]
        taken.append((frame[0], height - pixel, frame[2], height + pixel))
    for point, name in zip(points, names, strict=True):
        options: list[tuple[float, int, Box, Any]] = []
        for distance in (4, 9, 16, 26):
            for across, up in _SIDES:
                text = axes.annotate(
                    name,
                    point,
                    xytext=(across * distance, up * distance),
                    textcoords='offset points',
                    ha=_ALIGNED[across][0],
                    va=_ALIGNED[up][1],
                    fontsize=8,
                    arrowprops={'arrowstyle': '-', 'lw': 0.5, 'color': 'grey'}
                    if distance > 9
                    else None,
                )
                box = _box(text.get_window_extent(renderer))
                text.remove()
                cost = sum(_overlap(box, other) for other in taken) + _outside(box, frame)
                options.append((cost + 0.01 * distance, len(options), box, text))
        _, _, box, text = min(options)
        axes.add_artist(text)
        taken.append(box)


def name_ends(
    axes: Any, ends: Sequence[tuple[float, float]], names: Sequence[str], colours: Sequence[Any]
) -> None:
    """Write the names of lines in a column to the right of the axes, in the order of their ends.

    Args:
        axes: Of Matplotlib, with everything else in place, in a figure with a canvas.
        ends: Last point of each line, in the units of the axes.
        names: One per line.
        colours: One per line.
    """
    from matplotlib.lines import Line2D

    order = sorted(range(len(ends)), key=lambda i: ends[i][1])
    axes.margins(x=0.02)
    axes.figure.draw_without_rendering()
    height = axes.get_window_extent().height
    inside = [axes.transAxes.inverted().transform(axes.transData.transform(end)) for end in ends]
    step = 8 * 1.25 * axes.figure.dpi / 72 / height  # a line of text of 8 points
    wanted = [float(inside[i][1]) for i in order]
    for place, i in zip(_spread(wanted, step), order, strict=True):
        leader = Line2D(
            (inside[i][0], 1.0, 1.05, 1.06), (inside[i][1], inside[i][1], place, place),
            color=colours[i], linewidth=0.6, transform=axes.transAxes, clip_on=False,
        )  # fmt: skip
        axes.add_line(leader)
        axes.annotate(
            names[i], (1.07, place), xycoords='axes fraction', fontsize=8, color=colours[i],
            va='center',
        )  # fmt: skip


def _spread(wanted: Sequence[float], step: float) -> list[float]:
    """Ascending places at least ``step`` apart, around those wanted, from 0 to 1 if they fit."""
    groups: list[tuple[float, int]] = []  # centre and number of names that touch
    for place in wanted:
        groups.append((_bounded(place, 1, step), 1))
        while len(groups) > 1:
            (low, below), (high, above) = groups[-2:]
            if high - low >= step * (below + above) / 2:
                break
            size = below + above
            centre = (low * below + high * above) / size
            groups[-2:] = [(_bounded(centre, size, step), size)]
    return [
        centre + (number - (size - 1) / 2) * step
        for centre, size in groups
        for number in range(size)
    ]


def _bounded(centre: float, size: int, step: float) -> float:
    half = min(size * step / 2, 0.5)
    return min(max(centre, half), 1 - half)


def _box(extent: Any) -> Box:
    return extent.x0, extent.y0, extent.x1, extent.y1


def _overlap(one: Box, other: Box) -> float:
    """Pixels that two boxes share."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    up = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0.0) * max(up, 0.0)


def _outside(box: Box, frame: Box) -> float:
    """Pixels of a box beyond a frame, and more than any overlap inside."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    return 10 * (area - _overlap(box, frame))
