"""Pictures of predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np


def colour(labels: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Label maps ``(H, W)`` as RGB ``(H, W, 3)``; labels without a colour are white."""
    table = np.full((256, 3), 255, np.uint8)
    table[: len(palette)] = palette
    return table[labels.astype(np.uint8)]


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
    # Imported here: only pictures need matplotlib.
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    first = next(iter(predictions.values()))
    titles = ['image', 'truth', *predictions]
    height, width = first[0].ori_shape[:2]
    figure = Figure(figsize=(2.2 * len(titles), 2.2 * len(first) * height / width + 0.6))
    axes = figure.subplots(len(first), len(titles), squeeze=False)
    for row, samples in enumerate(zip(*predictions.values(), strict=True)):
        image = mmcv.imread(samples[0].img_path, channel_order='rgb')
        maps = [samples[0].gt_sem_seg, *(s.pred_sem_seg for s in samples)]
        tiles = [image] + [
            colour(m.data.squeeze().cpu().numpy(), metainfo['palette']) for m in maps
        ]
        for axis, tile, title in zip(axes[row], tiles, titles, strict=True):
            axis.imshow(tile, interpolation='nearest')
            axis.set_axis_off()
            if row == 0:
                axis.set_title(title, fontsize=11)
    figure.legend(
        handles=[
            Patch(facecolor=(c[0] / 255, c[1] / 255, c[2] / 255), edgecolor='grey', label=name)
            for name, c in zip(metainfo['classes'], metainfo['palette'], strict=True)
        ],
        loc='lower center',
        ncols=min(len(metainfo['classes']), 6),
        fontsize=9,
        frameon=False,
    )
    figure.subplots_adjust(0.01, 0.08, 0.99, 0.94, 0.03, 0.03)
    figure.savefig(path, dpi=110)
    return path
