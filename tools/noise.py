"""Images of noise with a few objects, as data for a model of mmseg or mmdet."""

from typing import Any

import numpy as np
import torch
from mmengine.structures import InstanceData, PixelData

OBJECTS = 8  # per image; COCO has seven on average
CLASSES = 8  # labels below this, which every head here has


def batch(scope: str, size: tuple[int, int], images: int) -> dict[str, Any]:
    """Inputs ``(3, H, W)`` in uint8 and their samples, as a dataloader collates them.

    Args:
        scope: ``mmseg`` or ``mmdet``.
        size: Height and width, in pixels.
        images: How many.
    """
    make = samples_of_mmdet if scope == 'mmdet' else samples_of_mmseg
    inputs = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for _ in range(images)]
    return {'inputs': inputs, 'data_samples': make(size, images)}


def samples_of_mmseg(size: tuple[int, int], images: int) -> list[Any]:
    """Random label maps."""
    from mmseg.structures import SegDataSample

    meta = dict(img_shape=size, ori_shape=size, pad_shape=size)
    labels = [torch.randint(0, 2, (1, *size)) for _ in range(images)]
    return [
        SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=dict(meta)) for label in labels
    ]


def samples_of_mmdet(size: tuple[int, int], images: int) -> list[Any]:
    """Random boxes with the masks of rectangles, and a map of one label."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    samples = []
    for _ in range(images):
        corners = torch.rand(OBJECTS, 2, 2).sort(dim=1).values * torch.tensor(size[::-1])
        corners[:, 1] = corners[:, 1].maximum(corners[:, 0] + 8).minimum(torch.tensor(size[::-1]))
        corners[:, 0] = corners[:, 0].minimum(corners[:, 1] - 8)
        boxes = corners.flatten(1)
        masks = np.zeros((OBJECTS, *size), np.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
            mask[top:bottom, left:right] = 1
        sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, img_id=0))
        sample.gt_instances = InstanceData(
            bboxes=HorizontalBoxes(boxes),
            labels=torch.randint(0, CLASSES, (OBJECTS,)),
            masks=BitmapMasks(masks, *size),
        )
        sample.ignored_instances = InstanceData(
            bboxes=HorizontalBoxes(torch.zeros(0, 4)), labels=torch.zeros(0)
        )
        sample.gt_sem_seg = PixelData(sem_seg=torch.zeros((1, *size), dtype=torch.uint8))
        samples.append(sample)
    return samples
