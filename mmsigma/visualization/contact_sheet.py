"""A contact sheet: some images of every dataset, with what their labels say."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS, VISUALIZERS

from mmsigma.checkpoint.atomic_write import write
from mmsigma.datasets.inspection import Part
from mmsigma.datasets.sample_check import evenly
from mmsigma.visualization.pictures import tiles

_COLUMNS = 2
_KEPT = ('Load', 'Pack')  # steps of a pipeline that say what is drawn


def draw(parts: Sequence[Part], path: str | Path, images: int = 4, scope: str | None = None) -> int:
    """Draw images beside their labels, or with boxes and masks over them, as mmseg or mmdet does.

    Args:
        parts: What :func:`mmsigma.datasets.inspection.inspect` returned.
        path: Where the PNG goes.
        images: How many of each dataset, evenly spaced.
        scope: The config's default scope.

    Returns:
        How many images are on the sheet.
    """
    rows: list[list[tuple[str, np.ndarray]]] = []
    drawn = 0
    for part in parts:
        if part.dataset is None or not len(part.dataset):
            continue
        found = list(_samples(part, images, scope))
        drawn += len(found)
        found[0] = f'{part.name}  {found[0][0]}', found[0][1]
        rows += [found[i : i + _COLUMNS] for i in range(0, len(found), _COLUMNS)]
    buffer = io.BytesIO()
    tiles(rows, _COLUMNS, (12.8, 2.6 * max(len(rows), 1))).savefig(buffer, format='png', dpi=100)
    write(path, buffer.getvalue())
    return drawn


def _samples(part: Part, images: int, scope: str | None) -> Iterator[tuple[str, np.ndarray]]:
    """Names and pictures of some images, read by the loading steps of the config itself."""
    steps = [
        {**step, 'meta_keys': ()} if 'Pack' in step['type'] else step
        for step in part.config.get('pipeline') or []
        if step['type'].rpartition('.')[2].startswith(_KEPT)
    ]
    with DATASETS.switch_scope_and_registry(scope) as registry:
        dataset = registry.build({**part.config, 'pipeline': steps, 'test_mode': False})
    detects = hasattr(dataset, 'COCOAPI') or 'instances' in dataset.get_data_info(0)
    kind = 'DetLocalVisualizer' if detects else 'SegLocalVisualizer'
    with VISUALIZERS.switch_scope_and_registry(scope) as registry:
        visualizer: Any = registry.build(dict(type=kind, name=f'sheet of {part.name}'))
    visualizer.dataset_meta = dataset.metainfo
    pictures: list[np.ndarray] = []
    visualizer.add_image = lambda name, image, step=0: pictures.append(image)
    for index in evenly(len(dataset), images):
        info = dataset.get_data_info(index)
        name = Path(info['img_path']).name
        try:
            found = dataset.pipeline(info)
            sample, image = found['data_samples'], found['inputs'].numpy().transpose(1, 2, 0)
            image = np.ascontiguousarray(image[..., ::-1], np.uint8)
            boxes = sample.gt_instances.get('bboxes') if detects else None
            if boxes is not None:  # mmdet draws no boxes of the kind that it loads
                sample.gt_instances.bboxes = getattr(boxes, 'tensor', boxes)
            visualizer.add_datasample(name, image, sample, draw_pred=False)
            if not detects:
                pictures.append(np.hstack([image, pictures[-1]]))
        except Exception as error:  # broken files are told elsewhere
            name = f'{name}: {type(error).__name__}'
            pictures.append(np.full((60, 80, 3), 220, np.uint8))
        yield name, pictures[-1]
