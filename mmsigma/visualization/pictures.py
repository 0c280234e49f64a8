"""Pictures of predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch


def colour(labels: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Label maps ``(H, W)`` as RGB ``(H, W, 3)``; labels without a colour are white."""
    table = np.full((256, 3), 255, np.uint8)
    table[: len(palette)] = palette
    return table[labels.astype(np.uint8)]


def tiles(
    rows: Sequence[Sequence[tuple[str, np.ndarray]]], columns: int, inches: tuple[float, float]
) -> Figure:
    """A figure of so many inches with rows of pictures, RGB ``(H, W, 3)``, below their titles."""
    figure = Figure(figsize=inches)
    axes = figure.subplots(max(len(rows), 1), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, line in zip(axes, rows, strict=False):
        for axis, (title, picture) in zip(row, line, strict=False):
            axis.imshow(picture, interpolation='nearest')
            axis.set_title(title, fontsize=9)
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.3 / inches[1], 0.03, 0.12)
    return figure


def compare(
    predictions: Mapping[str, Sequence[Any]], path: str | Path, metainfo: Mapping[str, Any]
) -> Path:
    """Draw rows of image, truth and each method's prediction.

    Args:
        predictions: Per method, mmseg's ``SegDataSample`` of the same images, with truth.
        path: Where the PNG goes.
        metainfo: ``classes`` and ``palette`` of the dataset.

    Returns:
        ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    titles = ['image', 'truth', *predictions]
    rows: list[list[tuple[str, np.ndarray]]] = []
    for samples in zip(*predictions.values(), strict=True):
        image = mmcv.imread(samples[0].img_path, channel_order='rgb')
        maps = [samples[0].gt_sem_seg, *(s.pred_sem_seg for s in samples)]
        labels = [colour(m.data.squeeze().cpu().numpy(), metainfo['palette']) for m in maps]
        shown = titles if not rows else [''] * len(titles)
        rows.append(list(zip(shown, [image, *labels], strict=True)))
    height, width = rows[0][0][1].shape[:2]
    inches = 2.2 * len(titles), 2.2 * len(rows) * height / width + 0.6
    figure = tiles(rows, len(titles), inches)
    figure.legend(
        handles=[
            Patch(facecolor=(r / 255, g / 255, b / 255), edgecolor='grey', label=name)
            for name, (r, g, b) in zip(metainfo['classes'], metainfo['palette'], strict=True)
        ],
        loc='lower center',
        ncols=min(len(metainfo['classes']), 6),
        fontsize=9,
        frameon=False,
    )
    figure.subplots_adjust(0.01, 0.08, 0.99, 0.94, 0.03, 0.03)
    figure.savefig(path, dpi=110)
    return path
