"""Predictions that runs drew while they were validated, side by side."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

WIDTH = 360  # at most, of a tile, in pixels

Tiles = Sequence[tuple[str, np.ndarray]]


def pictures(work_dir: Path, step: int) -> dict[tuple[str, int], Path]:
    """What a run drew in the validation after a step.

    mmseg and mmdet number a picture by the step plus the number of its image in the validation;
    mmseg's names hold the image's too.

    Args:
        work_dir: The run's folder.
        step: Of the last validation.

    Returns:
        Pictures by name and number of the image.
    """
    found = {}
    for path in sorted(work_dir.glob('*/vis_data/vis_image/val_*.png')):
        parts = re.fullmatch(r'(.*)_(\d+)', path.stem)
        if parts and int(parts[2]) >= step:
            found[parts[1], int(parts[2]) - step] = path
    return found


def side_by_side(runs: Mapping[str, tuple[Path, int]], limit: int = 4) -> list[tuple[str, Tiles]]:
    """The same images as several runs see them.

    Pictures show truth and prediction in their halves. Where the left halves of all runs are the
    same, it is shown once; otherwise whole pictures are shown.

    Args:
        runs: By name, the folder of a run and the step of its last validation.
        limit: Images at most.

    Returns:
        Per image its name and titled tiles, BGR ``(H, W, 3)`` of bytes; empty where the runs drew
        nothing, or no image in common.
    """
    drawn = {name: pictures(folder, step) for name, (folder, step) in runs.items()}
    drawn = {name: found for name, found in drawn.items() if found}
    if not drawn:
        return []
    common = sorted(set.intersection(*(set(found) for found in drawn.values())))
    chosen = [common[i] for i in _spaced(len(common), limit)]
    rows = []
    for key in chosen:
        loaded = {name: cv2.imread(str(found[key])) for name, found in drawn.items()}
        images = {name: image for name, image in loaded.items() if image is not None}
        title = key[0].removeprefix('val_')
        rows.append((f'image {key[1]}' if title == 'img' else title, _tiles(images)))
    return [(title, tiles) for title, tiles in rows if tiles]


def _spaced(count: int, limit: int) -> list[int]:
    """At most ``limit`` of ``count`` numbers, evenly spaced."""
    return list(range(count)) if count <= limit else [i * count // limit for i in range(limit)]


def _tiles(images: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    halves = {name: np.hsplit(im[:, : im.shape[1] // 2 * 2], 2) for name, im in images.items()}
    truths = [left for left, _ in halves.values()]
    shared = len(truths) > 1 and all(np.array_equal(truths[0], left) for left in truths[1:])
    if not shared:
        return [(name, _small(image, 2 * WIDTH)) for name, image in images.items()]
    predicted = [(name, _small(right, WIDTH)) for name, (_, right) in halves.items()]
    return [('truth', _small(truths[0], WIDTH)), *predicted]


def _small(image: np.ndarray, width: int) -> np.ndarray:
    height, own = image.shape[:2]
    if own <= width:
        return image
    size = (width, max(round(height * width / own), 1))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
