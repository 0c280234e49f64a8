"""Panoptic label images of COCO, without the ``panopticapi`` package.

mmdet's own transform and metric need that package, which no package index has.
"""

import cv2
import numpy as np
from mmengine.fileio import get

from mmsigma.errors import DataError
from mmsigma.registry import TRANSFORMS

VOID = 0  # COCO's id of what is no segment
_IGNORED = 255  # mmdet's label of what is no class
# mmdet's panoptic maps: the label of a class plus this times the number of the instance.
INSTANCE_OFFSET = 1000


def decode(image: np.ndarray) -> np.ndarray:
    """Segment ids ``(H, W)`` of an RGB picture ``(H, W, 3)`` of bytes: R + 256 G + 256² B."""
    red, green, blue = (image[..., i].astype(np.int64) for i in range(3))
    return red + 256 * green + 256**2 * blue


def encode(ids: np.ndarray) -> np.ndarray:
    """The RGB picture ``(H, W, 3)`` of bytes of segment ids ``(H, W)``."""
    return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


def read(path: str) -> np.ndarray:
    """Segment ids ``(H, W)`` of a panoptic PNG.

    Raises:
        DataError: No such file, or no picture.
    """
    try:
        picture = cv2.imdecode(np.frombuffer(get(path), np.uint8), cv2.IMREAD_COLOR)
    except FileNotFoundError as error:
        raise DataError(
            f'There is no panoptic picture {path!r}. Set data_prefix.seg to the folder of '
            'PNG files that belongs to ann_file.'
        ) from error
    if picture is None:
        raise DataError(f'{path!r} is no picture that can be decoded.')
    return decode(picture[..., ::-1])


@TRANSFORMS.register_module()
class LoadPanoptic:
    """Reads a panoptic PNG of a ``CocoPanopticDataset``: masks of things, and a map of labels.

    The masks go into ``instances`` as run lengths, where mmdet's ``LoadAnnotations(with_bbox=True,
    with_mask=True)``, which must follow, finds them. ``gt_seg_map`` ``(H, W)`` holds the labels of
    things and stuff, 255 for the rest.
    """

    def __call__(self, results: dict) -> dict:
        """Add masks and ``gt_seg_map``.

        Raises:
            DataError: A picture that is missing, or lacks a segment of its annotation.
        """
        from pycocotools import mask as rle  # comes with mmdet

        ids = read(results['seg_map_path'])
        labels = np.full(ids.shape, _IGNORED, np.uint8)
        masks = []
        for segment in results['segments_info']:
            mask = ids == segment['id']
            if not mask.any():
                raise DataError(
                    f'{results["seg_map_path"]} has no pixel of segment {segment["id"]} that its '
                    'annotation names: ann_file and data_prefix.seg do not belong together.'
                )
            labels[mask] = segment['category']
            if segment['is_thing']:  # False for crowds
                encoded = rle.encode(np.asfortranarray(mask, np.uint8))
                # As text: upstream takes run lengths in bytes for no mask at all.
                masks.append({**encoded, 'counts': encoded['counts'].decode()})
        # Upstream lists things in the order of their segments.
        results['instances'] = [
            {**instance, 'mask': mask}
            for instance, mask in zip(results['instances'], masks, strict=True)
        ]
        results['gt_seg_map'] = labels
        return results
