"""The truth as prediction scores 1.0 on real annotations, through the evaluators of the configs."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, TRANSFORMS, init_default_scope
from mmengine.utils import import_modules_from_strings

from mmsigma.datasets.panoptic import INSTANCE_OFFSET
from tests import shared
from tests.fixtures import ROOT
from tests.shared import need

DATA = shared.DATA / 'coco_slice'

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope='module')
def real():
    need(DATA)


def build(head, images=None):
    """The validation set of a leaf, and its evaluators."""
    config = Config.fromfile(ROOT / f'configs/coco_slice/sigma_dinov2-s_{head}_coco-slice.py')
    import_modules_from_strings(**config.custom_imports)
    init_default_scope('mmdet')
    dataset = DATASETS.build({**config.val_dataloader.dataset, 'indices': images})
    evaluators = config.val_evaluator
    evaluators = evaluators if isinstance(evaluators, list) else [evaluators]
    metrics = [METRICS.build(evaluator) for evaluator in evaluators]
    for metric in metrics:
        metric.dataset_meta = dataset.metainfo
    return dataset, metrics


def as_prediction(truth):
    """Every instance of a ground truth, found with certainty."""
    found = {'bboxes': truth.bboxes.tensor, 'labels': truth.labels}
    found['scores'] = torch.ones(len(truth.labels))
    if 'masks' in truth:
        found['masks'] = truth.masks.to_tensor(torch.bool, 'cpu')
    return found


def score(metrics, samples):
    """What the evaluators say."""
    for metric in metrics:
        metric.process({}, samples)
    return {k: v for metric in metrics for k, v in metric.evaluate(len(samples)).items()}


@pytest.mark.parametrize(
    ('head', 'kinds'), [('retinanet', ['bbox']), ('mask-rcnn', ['bbox', 'segm'])]
)
def test_instances(head, kinds):
    dataset, metrics = build(head)
    samples = []
    for item in dataset:
        sample = item['data_samples']
        found = as_prediction(sample.gt_instances)
        samples.append({**sample.metainfo, 'pred_instances': found})
    assert len(samples) == 100
    assert sum(len(s['pred_instances']['labels']) for s in samples) > 600
    scores = score(metrics, samples)
    for kind in kinds:
        for name in ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l'):
            assert scores[f'coco/{kind}_{name}'] == 1.0
    # And one is worth something: without every other instance it is less.
    for sample in samples:
        sample['pred_instances'] = {k: v[::2] for k, v in sample['pred_instances'].items()}
    assert score(metrics, samples)[f'coco/{kinds[0]}_mAP'] < 0.8


def panoptic_map(results, classes):
    """What a model that knows the truth gives: void on crowds, and where nothing is labelled."""
    panoptic = np.where(results['gt_seg_map'] == 255, classes, results['gt_seg_map'].astype(int))
    for segment in results['segments_info']:
        if segment['category'] < 80 and not segment['is_thing']:
            panoptic[(panoptic == segment['category'])] = classes
    for number, mask in enumerate(results['gt_masks'].masks, 1):
        panoptic[mask > 0] = results['gt_bboxes_labels'][number - 1] + number * INSTANCE_OFFSET
    return torch.from_numpy(panoptic)[None]


def test_panoptic():
    dataset, metrics = build('mask2former-panoptic')
    load = [
        TRANSFORMS.build(step)
        for step in (
            dict(type='LoadImageFromFile'),
            dict(type='mmsigma.LoadPanoptic'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        )
    ]
    samples = []
    for index in range(len(dataset)):
        results = dataset.get_data_info(index)
        for step in load:
            results = step(results)
        found = {
            'bboxes': results['gt_bboxes'].tensor,
            'labels': torch.from_numpy(results['gt_bboxes_labels']),
            'masks': results['gt_masks'].to_tensor(torch.bool, 'cpu'),
            'scores': torch.ones(len(results['gt_bboxes_labels'])),
        }
        keys = ('img_id', 'img_path', 'ori_shape', 'seg_map_path', 'segments_info')
        samples.append(
            {
                **{key: results[key] for key in keys},
                'pred_panoptic_seg': {'sem_seg': panoptic_map(results, 133)},
                'pred_instances': found,
            }
        )
    scores = score(metrics, samples)
    assert len(samples) == 100
    for name in ('PQ', 'SQ', 'RQ', 'PQ_th', 'SQ_th', 'RQ_th', 'PQ_st', 'SQ_st', 'RQ_st'):
        assert scores[f'coco_panoptic/{name}'] == pytest.approx(100, abs=1e-9)
    assert scores['coco/bbox_mAP'] == scores['coco/segm_mAP'] == 1.0
    for sample in samples:
        sample['pred_panoptic_seg']['sem_seg'][..., ::2] = 133  # half of all pixels
    assert score(metrics, samples)['coco_panoptic/PQ'] < 50


def test_a_part_is_judged_by_itself():
    """The overfit setting: its images are those that train, and no other counts."""
    name = 'sigma_dinov2-s_mask-rcnn-small_coco-slice-overfit'
    config = Config.fromfile(ROOT / f'configs/coco_slice/{name}.py')
    import_modules_from_strings(**config.custom_imports)
    init_default_scope('mmdet')
    train = DATASETS.build(config.train_dataloader.dataset)
    val = DATASETS.build(config.val_dataloader.dataset)
    paths = [[d.get_data_info(i)['img_path'] for i in range(len(d))] for d in (train, val)]
    assert paths[0] == paths[1]
    assert len(paths[0]) == 16
    metric = METRICS.build(config.val_evaluator)
    metric.dataset_meta = val.metainfo
    samples = []
    for item in val:
        sample = item['data_samples']
        found = as_prediction(sample.gt_instances)
        samples.append({**sample.metainfo, 'pred_instances': found})
    scores = score([metric], samples)
    assert scores['coco/bbox_mAP'] == scores['coco/segm_mAP'] == 1.0
