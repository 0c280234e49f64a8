"""A contact sheet: some images of every dataset, with what their labels say."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmengine.registry import DATASETS

from mmsigma.checkpoint.atomic_write import write
from mmsigma.datasets.inspection import Part
from mmsigma.visualization.pictures import colour

_COLUMNS = 4


def draw(parts: Sequence[Part], path: str | Path, images: int = 4, scope: str | None = None) -> int:
    """Draw images beside their label maps, or with boxes and masks over them.

    Args:
        parts: What :func:`mmsigma.datasets.inspection.inspect` returned.
        path: Where the PNG goes.
        images: How many of each dataset, evenly spaced.
        scope: The config's default scope.

    Returns:
        How many images are on the sheet.
    """
    from matplotlib.figure import Figure  # only pictures need matplotlib

    rows: list[tuple[str, list[tuple[str, np.ndarray]]]] = []
    drawn = 0
    for part in parts:
        if part.dataset is None or not len(part.dataset):
            continue
        tiles: list[tuple[str, np.ndarray]] = []
        for name, found in _samples(part, images, scope):
            tiles += [(name if i == 0 else '', tile) for i, tile in enumerate(found)]
            drawn += 1
        pieces = [tiles[i : i + _COLUMNS] for i in range(0, len(tiles), _COLUMNS)]
        rows += [(part.name if i == 0 else '', piece) for i, piece in enumerate(pieces)]
    height = 2.6 * max(len(rows), 1)
    figure = Figure(figsize=(3.2 * _COLUMNS, height))
    axes = figure.subplots(max(len(rows), 1), _COLUMNS, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, (title, tiles) in zip(axes, rows, strict=False):
        for axis, (name, tile) in zip(row, tiles, strict=False):
            axis.imshow(tile, interpolation='nearest')
            axis.set_title(f'{title}  {name}'.strip() if axis is row[0] else name, fontsize=8)
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.3 / height, 0.03, 0.12)
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=100)
    write(path, buffer.getvalue())
    return drawn


def _samples(part: Part, images: int, scope: str | None) -> list[tuple[str, list[np.ndarray]]]:
    """Names and pictures of some images, read by the loading steps of the config itself."""
    steps = [
        step
        for step in part.config.get('pipeline') or []
        if str(step.get('type')).rpartition('.')[2].startswith('Load')
    ]
    with DATASETS.switch_scope_and_registry(scope) as registry:
        dataset = registry.build({**part.config, 'pipeline': steps, 'test_mode': False})
        indices = np.unique(np.linspace(0, len(dataset) - 1, images).astype(int))
        found = []
        for index in indices:
            info = dataset.get_data_info(int(index))
            name = Path(info['img_path']).name
            try:
                results = dataset.pipeline(info)
                found.append((name, _tiles(results, part)))
            except Exception as error:  # broken files are told elsewhere
                blank = np.full((60, 80, 3), 220, np.uint8)
                found.append((f'{name}: {type(error).__name__}', [blank]))
    return found


def _tiles(results: dict[str, Any], part: Part) -> list[np.ndarray]:
    image = results['img'].astype(np.uint8)
    image = image[..., ::-1] if image.ndim == 3 else np.repeat(image[..., None], 3, -1)
    palette = part.dataset.metainfo.get('palette') or []
    if 'gt_bboxes' in results:
        tiles = [_boxes(image, results, palette, part.classes)]
        if 'gt_seg_map' in results:  # panoptic: stuff too
            tiles.append(colour(results['gt_seg_map'], palette))
        return tiles
    if 'gt_depth_map' in results:
        depth = results['gt_depth_map']
        grey = np.asarray(255 * depth / max(float(depth.max()), 1e-6), np.uint8)
        return [image, np.repeat(grey[..., None], 3, -1)]
    if 'gt_seg_map' in results:
        if results['gt_seg_map'].ndim != 2:
            raise ValueError('a label file holds colours')
        return [image, colour(results['gt_seg_map'], palette)]
    return [image]


def _boxes(
    image: np.ndarray, results: dict[str, Any], palette: Sequence[Any], classes: Sequence[str]
) -> np.ndarray:
    import cv2  # a part of mmcv

    canvas = image.astype(np.float32)
    labels = results['gt_bboxes_labels']
    tints = [np.array(palette[i] if i < len(palette) else (255, 0, 0), float) for i in labels]
    masks = results['gt_masks'].to_ndarray() if 'gt_masks' in results else []
    for mask, tint in zip(masks, tints, strict=False):
        inside = mask.astype(bool)
        canvas[inside] = 0.45 * canvas[inside] + 0.55 * tint
    picture = np.ascontiguousarray(canvas.astype(np.uint8))
    boxes = results['gt_bboxes']
    thick = max(1, round(max(picture.shape) / 300))
    for box, tint, label in zip(getattr(boxes, 'tensor', boxes), tints, labels, strict=True):
        x1, y1, x2, y2 = (round(float(v)) for v in box)
        shade = tuple(map(int, tint))
        cv2.rectangle(picture, (x1, y1), (x2, y2), shade, thick)
        place = (x1 + 2, max(y1 + 12 * thick, 10))
        title = classes[label] if label < len(classes) else str(label)
        for tone, width in (((0, 0, 0), 3 * thick), ((255, 255, 255), thick)):
            cv2.putText(picture, title, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4 * thick, tone, width)
    return mmcv.imrescale(picture, (800, 800)) if max(picture.shape) > 800 else picture
