"""Files as trainings write them give the maps of the plain weights."""

import argparse
import re

import pytest
import torch

from mmsigma.errors import WeightsError
from mmsigma.models.trunks.weights.loading import read
from tests.models.trunks.weights.test_loading import load
from tests.tiny import state

PLAIN = state('dinov2')
OTHER = {key: value + 1 for key, value in PLAIN.items()}


def chunked(tensors):
    return {re.sub(r'^blocks\.', 'blocks.0.', k): v for k, v in tensors.items()}


def under(prefix, tensors):
    return {prefix + key: value for key, value in tensors.items()}


FILES = {
    'timm': {'state_dict': OTHER, 'state_dict_ema': PLAIN, 'args': argparse.Namespace(lr=1)},
    'MAE': {'model': PLAIN, 'args': argparse.Namespace(lr=1), 'epoch': 3},
    'mmpretrain': {'state_dict': PLAIN, 'ema_state_dict': under('module.', OTHER)},
    'DINOv2': {'teacher': under('backbone.', chunked(PLAIN))},
    'DINOv3': {
        'model': under('teacher.backbone.', chunked(PLAIN))
        | under('student.backbone.', chunked(OTHER))
    },
}


@pytest.mark.parametrize('name', FILES)
def test_files_of_trainings(name, tmp_path):
    torch.save(FILES[name], tmp_path / 'file.pth')
    own = load(tmp_path / 'file.pth').model.state_dict()
    assert all(torch.equal(value, PLAIN[key]) for key, value in own.items())


@pytest.mark.parametrize(('name', 'other'), [('timm', 'state_dict'), ('DINOv3', 'student')])
def test_the_other_set(name, other, tmp_path):
    torch.save(FILES[name], tmp_path / 'file.pth')
    own = load(f'{tmp_path}/file.pth#{other}').model.state_dict()
    assert all(torch.equal(value, OTHER[key]) for key, value in own.items())
    with pytest.raises(WeightsError, match="no set 'nothing'"):
        read(f'{tmp_path}/file.pth#nothing')
