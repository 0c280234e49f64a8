"""Panoptic quality (Kirillov et al., CVPR 2019, arXiv 1801.00868), as COCO defines it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.evaluator import BaseMetric

from mmsigma.checkpoint.atomic_write import write
from mmsigma.datasets.panoptic import INSTANCE_OFFSET, VOID, encode, read
from mmsigma.errors import DataError, InvalidSettingError
from mmsigma.registry import METRICS

_GROUPS = {'': (True, False), '_th': (True,), '_st': (False,)}


def segments(panoptic: np.ndarray, classes: int) -> tuple[np.ndarray, dict[int, int]]:
    """Segment ids ``(H, W)`` from 1, 0 where nothing is, and the label of each id.

    Args:
        panoptic: mmdet's map ``(H, W)``.
        classes: Number of classes; labels from there on are void.
    """
    values, ids = np.unique(panoptic, return_inverse=True)
    labels = values % INSTANCE_OFFSET
    known = labels < classes
    numbers = np.where(known, np.cumsum(known), VOID)
    found = dict(zip(numbers[known].tolist(), labels[known].tolist(), strict=True))
    return numbers[ids].reshape(panoptic.shape), found


def compare(
    truth: np.ndarray,
    true_segments: Sequence[Mapping[str, Any]],
    predicted: np.ndarray,
    labels: Mapping[int, int],
    classes: int,
) -> np.ndarray:
    """Sums over one image, by class: true positives, their IoU, false positives and negatives.

    A pair of segments of one class matches where its intersection over union, void pixels of the
    truth left out of the union, is above one half. Crowds match nothing; a prediction that lies by
    more than half on void and crowds of its class counts as nothing.

    Args:
        truth: Segment ids ``(H, W)``; :data:`~mmsigma.datasets.panoptic.VOID` for none.
        true_segments: ``id``, ``category`` (a label) and ``crowd`` of every true segment.
        predicted: Segment ids ``(H, W)``.
        labels: The label of every predicted id.
        classes: Number of classes.

    Returns:
        ``(classes, 4)``.

    Raises:
        DataError: Pictures of different size.
    """
    if truth.shape != predicted.shape:
        raise DataError(
            f'The panoptic picture is {truth.shape}, the image {predicted.shape} (rows, columns): '
            'data_prefix.seg belongs to other images.'
        )
    category = np.array([segment['category'] for segment in true_segments], int)
    crowd = np.array([segment['crowd'] for segment in true_segments], bool)
    label = np.array([*labels.values()], int)
    # Pixels of each pair; the first row and column are of no segment.
    shape = len(category) + 1, len(label) + 1
    places = (
        _places(truth, [segment['id'] for segment in true_segments]),
        _places(predicted, labels),
    )
    pairs = np.ravel_multi_index(places, shape).ravel()
    pixels = np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)
    overlap, on_void, area = pixels[1:, 1:], pixels[0, 1:], pixels[:, 1:].sum(axis=0)
    union = pixels[1:].sum(axis=1)[:, None] + area - overlap - on_void
    iou = overlap / np.maximum(union, 1)
    same = category[:, None] == label
    match = same & ~crowd[:, None] & (iou > 0.5)
    hit, missed = match.any(axis=0), ~match.any(axis=1) & ~crowd
    excused = on_void + (overlap * (same & crowd[:, None])).sum(axis=0)
    sums = np.zeros((classes, 4))
    np.add.at(sums[:, 0], label[hit], 1)
    np.add.at(sums[:, 1], label[hit], (iou * match).sum(axis=0)[hit])
    np.add.at(sums[:, 2], label[~hit & (excused <= area / 2)], 1)
    np.add.at(sums[:, 3], category[missed], 1)
    return sums


def _places(values: np.ndarray, ids: Iterable[int]) -> np.ndarray:
    """Which of ``ids`` each value is, counted from 1; 0 for none."""
    places = {number: place for place, number in enumerate(ids, 1)}
    found, inverse = np.unique(values, return_inverse=True)
    of_found = np.array([places.get(value, 0) for value in found.tolist()])
    return of_found[inverse.reshape(values.shape)]


@METRICS.register_module()
class PanopticQuality(BaseMetric):
    """PQ, SQ and RQ in percent: of all classes, of things (``_th``) and of stuff (``_st``).

    The same numbers as mmdet's ``CocoPanopticMetric``, which needs a package that is on no index.
    The truth comes with the images that are evaluated, so a part of a dataset is judged by itself:
    the test pipeline packs ``seg_map_path`` and ``segments_info``.

    Args:
        outfile_prefix: Write the predictions for COCO's evaluation server, as
            ``PREFIX.panoptic.json`` and ``PREFIX.panoptic/*.png``. Needs ``ann_file``.
        ann_file: A JSON file of COCO whose ``categories`` give the ids to write.
        format_only: Write and evaluate nothing: for images without published truth.
        **kwargs: See ``mmengine.evaluator.BaseMetric``.

    Raises:
        InvalidSettingError: A file to write without ``ann_file``, or none with ``format_only``.
    """

    default_prefix = 'coco_panoptic'

    def __init__(
        self,
        outfile_prefix: str | None = None,
        ann_file: str | None = None,
        format_only: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (outfile_prefix and not ann_file) or (format_only and not outfile_prefix):
            raise InvalidSettingError(
                'PanopticQuality writes predictions with both outfile_prefix and ann_file; given: '
                f'outfile_prefix={outfile_prefix!r}, ann_file={ann_file!r}, '
                f'format_only={format_only}.'
            )
        self.outfile_prefix = outfile_prefix
        self.format_only = format_only
        categories = json.loads(Path(ann_file).read_text())['categories'] if ann_file else []
        self.category_ids = {category['name']: category['id'] for category in categories}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Compare the predictions of a batch with the truth, and write them where asked to."""
        classes = self.dataset_meta['classes']
        for sample in data_samples:
            panoptic = sample['pred_panoptic_seg']['sem_seg'][0].cpu().numpy()
            predicted, labels = segments(panoptic, len(classes))
            written = self._write(sample, predicted, labels) if self.outfile_prefix else None
            sums = None
            if not self.format_only:
                things = {classes.index(name) for name in self.dataset_meta['thing_classes']}
                truth = [
                    {
                        'id': segment['id'],
                        'category': segment['category'],
                        # mmdet calls a crowd of things no thing.
                        'crowd': segment['category'] in things and not segment['is_thing'],
                    }
                    for segment in sample['segments_info']
                ]
                ids = read(sample['seg_map_path'])
                sums = compare(ids, truth, predicted, labels, len(classes))
            self.results.append((sums, written))

    def _write(self, sample: dict, predicted: np.ndarray, labels: Mapping[int, int]) -> dict:
        name = Path(sample['img_path']).with_suffix('.png').name
        picture = cv2.cvtColor(encode(predicted), cv2.COLOR_RGB2BGR)
        write(
            Path(f'{self.outfile_prefix}.panoptic', name),
            cv2.imencode('.png', picture)[1].tobytes(),
        )
        return {
            'image_id': sample['img_id'],
            'file_name': name,
            'segments_info': [
                {'id': p, 'category_id': self.category_ids[self.dataset_meta['classes'][label]]}
                for p, label in labels.items()
            ],
        }

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The means over the classes that occur, in the truth or in the predictions."""
        if self.outfile_prefix:
            annotations = {'annotations': [written for _, written in results]}
            write(f'{self.outfile_prefix}.panoptic.json', json.dumps(annotations).encode())
        if self.format_only:
            return {}
        positive, iou, false, missed = np.sum([sums for sums, _ in results], axis=0).T
        weight = positive + (false + missed) / 2
        is_thing = np.isin(self.dataset_meta['classes'], self.dataset_meta['thing_classes'])
        metrics = {}
        for suffix, kinds in _GROUPS.items():
            seen = (weight > 0) & np.isin(is_thing, kinds)
            found = np.maximum(positive[seen], 1)  # no match: no IoU either
            values = {
                'PQ': iou[seen] / weight[seen],
                'SQ': iou[seen] / found,
                'RQ': positive[seen] / weight[seen],
            }
            for name, value in values.items():
                metrics[name + suffix] = 100 * float(value.mean()) if seen.any() else 0.0
        return metrics
