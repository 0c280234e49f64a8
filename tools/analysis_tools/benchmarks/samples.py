"""Images of noise with a few objects, as data for a model of mmseg or mmdet."""

from typing import Any

import torch
from mmengine.structures import PixelData

OBJECTS = 8  # per image; COCO has seven on average
CLASSES = 8  # labels below this, which every head here has


def batch(scope: str, size: tuple[int, int], images: int) -> dict[str, Any]:
    """Inputs ``(3, H, W)`` in uint8 and their samples, as a dataloader collates them.

    Args:
        scope: ``mmseg`` or ``mmdet``.
        size: Height and width, in pixels.
        images: How many.
    """
    if scope == 'mmdet':
        return _batch_of_mmdet(size, images)
    from mmseg.structures import SegDataSample

    meta = dict(img_shape=size, ori_shape=size, pad_shape=size)
    samples = []
    for _ in range(images):
        labels = torch.randint(0, 2, (1, *size))
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=dict(meta)))
    inputs = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for _ in range(images)]
    return {'inputs': inputs, 'data_samples': samples}


def _batch_of_mmdet(size: tuple[int, int], images: int) -> dict[str, Any]:
    from mmdet.testing import demo_mm_inputs

    data = demo_mm_inputs(
        images, (3, *size), [OBJECTS] * images, CLASSES, with_mask=True, with_semantic=True,
        use_box_type=True,
    )  # fmt: skip
    for sample in data['data_samples']:
        masks = sample.gt_instances.masks
        masks.masks = masks.masks.astype('uint8')  # as data sets give them
        sample.ignored_instances = sample.ignored_instances[:0]
    return data
