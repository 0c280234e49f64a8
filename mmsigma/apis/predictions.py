"""Predictions as files that other programs read, and how an image file becomes a model's input."""

import json
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate

from mmsigma.checkpoint.atomic_write import write
from mmsigma.datasets.panoptic import encode
from mmsigma.errors import InvalidInputError, InvalidSettingError
from mmsigma.evaluation.panoptic import segments

# Transforms that read labels, which an image to predict does not have.
_LABELS = ('LoadAnnotations', 'LoadDepthAnnotation', 'LoadPanoptic', 'LoadPanopticAnnotations')


def reader(config: Config) -> Callable[[Path], dict[str, Any]]:
    """What makes a batch of one image file, as the pipeline of the config's test set has it.

    Call it while the config's default scope is the current one, as after ``MultiTaskModel.add``.
    The reader raises ``InvalidInputError`` for a file that is missing or no picture.

    Raises:
        InvalidSettingError: The config has no test set with a pipeline.
    """
    node: Any = (config.get('test_dataloader') or {}).get('dataset') or {}
    while 'pipeline' not in node and (node.get('dataset') or node.get('datasets')):
        node = node.get('dataset') or node['datasets'][0]
    if 'pipeline' not in node:
        raise InvalidSettingError(
            f'{config.filename} has no test_dataloader.dataset.pipeline, which says how an image '
            'is read. Give the config that the model was tested with.'
        )
    steps = [s for s in node['pipeline'] if str(s['type']).rpartition('.')[2] not in _LABELS]
    pipeline = Compose(steps)

    def read(path: Path) -> dict[str, Any]:
        if not path.is_file() or cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is None:
            raise InvalidInputError(f'{path} is missing, truncated or no picture.')
        return pseudo_collate([pipeline(dict(img_path=str(path), img_id=0))])

    return read


def files(sample: Any, classes: Sequence[str]) -> dict[str, bytes]:
    """The predictions of one image, as contents of files by suffix.

    Args:
        sample: mmseg's or mmdet's data sample with predictions.
        classes: Names of the classes, if they are known.

    Returns:
        ``.png``: labels of pixels, of 8 bits, or of 16 if the labels need them. ``.npy``: depth
        ``(H, W)``, float32. ``.panoptic.png``: segment ids as COCO writes them, 0 for none.
        ``.json``: ``instances``, each with ``label``, ``score``, ``bbox`` (x1, y1, x2, y2 in pixels
        of the image) and perhaps ``mask`` (COCO's run lengths), ``segments`` (``id``, ``label``) of
        the panoptic picture, and ``classes``.

    Raises:
        InvalidSettingError: The sample has no prediction of a known kind.
    """
    found: dict[str, bytes] = {}
    facts: dict[str, Any] = {}
    if 'pred_sem_seg' in sample:
        labels = _array(sample.pred_sem_seg.data)[0]
        found['.png'] = _png(labels.astype(np.uint8 if labels.max() < 256 else np.uint16))
    if 'pred_depth_map' in sample:
        found['.npy'] = _npy(_array(sample.pred_depth_map.data)[0].astype(np.float32))
    if 'pred_instances' in sample:
        facts['instances'] = _instances(sample.pred_instances)
    if 'pred_panoptic_seg' in sample:
        ids, labels_of = segments(_array(sample.pred_panoptic_seg.sem_seg)[0], len(classes))
        found['.panoptic.png'] = _png(encode(ids)[..., ::-1])
        facts['segments'] = [{'id': i, 'label': label} for i, label in labels_of.items()]
    if facts:
        found['.json'] = json.dumps({**facts, 'classes': list(classes)}).encode()
    if not found:
        raise InvalidSettingError(
            f'A {type(sample).__name__} has no prediction that can be written: it holds '
            f'{", ".join(sample.keys()) or "nothing"}.'
        )
    return found


def save(found: dict[str, bytes], folder: Path, stem: str) -> None:
    """Write what :func:`files` gave as ``folder/stem.suffix``; each file is whole or not there."""
    for suffix, content in found.items():
        write(folder / f'{stem}{suffix}', content)


def _instances(instances: Any) -> list[dict[str, Any]]:
    labels, scores = _array(instances.labels), _array(instances.scores)
    found: list[dict[str, Any]] = [
        {'label': int(label), 'score': float(score)}
        for label, score in zip(labels, scores, strict=True)
    ]
    if 'bboxes' in instances:
        for fact, box in zip(found, _array(instances.bboxes), strict=True):
            fact['bbox'] = box.tolist()
    if 'masks' in instances:
        from pycocotools import mask as rle  # comes with mmdet, whose masks these are

        for fact, mask in zip(found, _array(instances.masks), strict=True):
            coded = rle.encode(np.asfortranarray(mask, np.uint8))
            fact['mask'] = {**coded, 'counts': coded['counts'].decode()}
    return found


def _array(values: Any) -> np.ndarray:
    return values.cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode('.png', image)[1].tobytes()


def _npy(array: np.ndarray) -> bytes:
    stream = BytesIO()
    np.save(stream, array)
    return stream.getvalue()
