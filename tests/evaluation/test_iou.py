"""mmseg's metric with the scores by class."""

import math

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric

from mmsigma.registry import METRICS


def metric(kind, **settings):
    found = METRICS.build({'type': kind, **settings})
    found.dataset_meta = {'classes': ('sky', 'sign symbol', 'never')}
    return found


def sample(predicted, truth):
    parts = {'pred_sem_seg': predicted, 'gt_sem_seg': truth}
    return {
        name: PixelData(data=torch.tensor([[values]])).to_dict() for name, values in parts.items()
    }


SAMPLES = [sample([0, 0, 0, 1], [0, 0, 0, 0]), sample([1, 0, 1, 1], [1, 0, 1, 255])]


def test_means_are_those_of_mmseg_and_classes_stand_beside():
    theirs, ours = metric('mmseg.IoUMetric'), metric('mmsigma.IoUMetric')
    assert isinstance(theirs, IoUMetric)
    for one in (theirs, ours):
        for each in SAMPLES:
            one.process({}, [each])
    means, found = theirs.evaluate(2), ours.evaluate(2)
    assert found.items() >= means.items() and set(means) == {'aAcc', 'mIoU', 'mAcc'}
    assert found['IoU/sky'] == 80.0
    assert found['IoU/sign symbol'] == pytest.approx(66.67)
    assert math.isnan(found['IoU/never'])
    assert not ours.results  # the next evaluation begins with nothing


def test_settings_are_those_of_mmseg(tmp_path):
    dice = metric('mmsigma.IoUMetric', iou_metrics=['mDice'], prefix='city')
    dice.process({}, SAMPLES)
    only = {'format_only': True, 'output_dir': str(tmp_path / 'files')}
    assert set(dice.evaluate(2)) == {'city/aAcc', 'city/mDice', 'city/mAcc'}
    assert metric('mmsigma.IoUMetric', **only).evaluate(0) == {}
