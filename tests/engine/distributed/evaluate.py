"""Metrics of five images, on as many processes as there are.

``python evaluate.py FOLDER`` in every process; process 0 prints the metrics.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from mmdet.evaluation import CocoMetric
from mmengine.dataset import DefaultSampler
from mmseg.evaluation import IoUMetric
from torch.utils.data import DataLoader

from mmsigma.datasets.panoptic import INSTANCE_OFFSET
from mmsigma.evaluation import PanopticQuality
from tests.coco import CATEGORIES, META, SIZE, segments

COUNT = 5  # one more than two batches of two
IDS = [category['id'] for category in CATEGORIES]


def semantic(index):
    random = torch.Generator().manual_seed(index)
    truth = torch.randint(0, 3, (1, 8, 8), generator=random)
    guess = torch.where(torch.rand(8, 8, generator=random) < 0.2 * (index + 1), 0, truth)
    return dict(pred_sem_seg=dict(data=guess), gt_sem_seg=dict(data=truth))


def instances(index):
    """The boxes of the truth, moved by as many pixels as the image's number, and one too many."""
    found = [s for s in segments(index) if s[0] in (16 * 3 + 1, 15 * 3 + 1)]
    boxes = [(c[0] + index, r[0] + index, c[1], r[1]) for _, r, c, _ in found]
    boxes.append((1, 1, 20 + index, 20))
    labels = [IDS.index(s[0]) for s in found] + [16]
    scores = torch.linspace(0.9, 0.3, len(boxes)) - 0.01 * index
    predicted = dict(
        bboxes=torch.tensor(boxes, dtype=torch.float32), scores=scores, labels=torch.tensor(labels)
    )
    return dict(img_id=index, ori_shape=SIZE, pred_instances=predicted)


def panoptic(index, folder):
    """The segments of the truth, moved down by three pixels for each image before this one."""
    guess = np.full(SIZE, len(META['classes']))
    truth = []
    for number, (category, rows, columns, crowd) in enumerate(segments(index), 1):
        label, thing = IDS.index(category), bool(CATEGORIES[IDS.index(category)]['isthing'])
        truth.append(dict(id=300 * number, category=label, is_thing=thing and not crowd))
        place = slice(rows[0] + 3 * index, rows[1]), slice(*columns)
        guess[place] = label + (number * INSTANCE_OFFSET if thing else 0)
    path = folder / f'annotations/panoptic_val2017/{index:012}.png'
    sem_seg = torch.from_numpy(guess)[None]
    return dict(
        pred_panoptic_seg=dict(sem_seg=sem_seg), segments_info=truth, seg_map_path=str(path)
    )


def evaluate(folder):
    """The values of all metrics."""
    annotations = str(folder / 'annotations/instances_val2017.json')
    metrics = {
        IoUMetric(iou_metrics=['mIoU'], collect_device='cpu'): semantic,
        CocoMetric(ann_file=annotations, metric='bbox', collect_device='cpu'): instances,
        PanopticQuality(collect_device='cpu'): lambda index: panoptic(index, folder),
        PanopticQuality(collect_device='gpu', prefix='object'): lambda i: panoptic(i, folder),
    }
    values = {}
    for metric, sample in metrics.items():
        metric.dataset_meta = META
        if isinstance(metric, IoUMetric):
            metric.dataset_meta = dict(classes=('a', 'b', 'c'))
        if isinstance(metric, CocoMetric):
            metric.dataset_meta = dict(classes=META['thing_classes'])
        images = range(COUNT)
        for batch in DataLoader(images, 2, sampler=DefaultSampler(images, shuffle=False)):
            metric.process(None, [sample(int(index)) for index in batch])
        values.update(metric.evaluate(COUNT))
    return {name: float(value) for name, value in values.items()}


if __name__ == '__main__':
    torch.distributed.init_process_group('gloo')
    found = evaluate(Path(sys.argv[1]))
    if os.environ['RANK'] == '0':
        print('metrics:', json.dumps(found))
    torch.distributed.destroy_process_group()
