"""Every family of trunks trains through the launcher, in the leaf config that uses it."""

import pytest
import torch
from mmengine.config import Config

from mmsigma import registry
from tests.fixtures import ROOT, load, logged
from tests.sample import sampled
from tests.tiny import TRUNKS, trunk_config

# A leaf for every family, and the tiny trunk that stands in for the real one.
LEAVES = {
    'sigma_dinov2-s_upernet': 'dinov2',
    'sigma_dinov3-s_upernet': 'dinov3',
    'sigma_beitv2-b_upernet': 'beit',
    'sigma_sam-b_upernet': 'sam',
    'sigma_sam2-hiera-t_upernet': 'hieradet',
    'sigma_hiera-t_upernet': 'hiera',
    'sigma_swin-t_upernet': 'swin',
    'sigma_swinv2-b_upernet': 'swinv2',
    'sigma_dinov3-convnext-t_upernet': 'convnext',
    'sigma_mmpretrain-dinov2-s_upernet': 'mmpretrain-layerscale',
    'sigma_mmpretrain-beitv2-b_upernet': 'mmpretrain-beit',
    'sigma_mmpretrain-eva02-b_upernet': 'mmpretrain-eva02',
    'sigma_mmpretrain-sam-b_upernet': 'mmpretrain-sam',
    'sigma_mmpretrain-swin-t_upernet': 'mmpretrain-swin-4',
    'sigma_mmpretrain-swinv2-b_upernet': 'mmpretrain-swinv2',
}
MODEL = """
model = dict(
    backbone=dict(
        trunk=dict(_delete_=True, **{trunk!r}), tuner=dict(bottleneck=8), out_indices=None
    ),
    neck=dict(
        in_channels={widths!r}, in_strides={strides!r}, out_channels=16, strides={levels!r}
    ),
    decode_head=dict(in_channels=[16] * {count}, in_index=list(range({count})), channels=16),
)
"""


def leaf(name):
    return ROOT / f'configs/camvid/{name}_camvid-448x336.py'


def test_no_family_is_missing():
    registry.TRUNKS.import_from_location()
    families = {Config.fromfile(leaf(name)).model.backbone.trunk.type for name in LEAVES}
    assert families == set(registry.TRUNKS.module_dict)
    for name, tiny in LEAVES.items():
        assert Config.fromfile(leaf(name)).trunk.type == TRUNKS[tiny].config['type']


# One of every kind: plain, tables of positions, pooling, windows, whole blocks, mmpretrain's.
KINDS = {
    'dinov2-s',
    'beitv2-b',
    'sam2-hiera-t',
    'swinv2-b',
    'dinov3-convnext-t',
    'mmpretrain-swin-t',
}


@pytest.mark.parametrize('name', sampled(LEAVES, lambda name: name.split('_')[1] in KINDS))
def test_trains_and_reloads(name, place):
    tiny = TRUNKS[LEAVES[name]]
    strides = list(tiny.strides or [tiny.patch] * len(tiny.widths))
    extra = MODEL.format(
        trunk=trunk_config(LEAVES[name]),
        widths=list(tiny.widths),
        strides=strides,
        levels=[4, 8, 16, 32][: len(strides)],
        count=len(strides),
    )
    extra += 'optim_wrapper = dict(optimizer=dict(lr=5e-3))\n'
    config = place.config(extra, leaf=leaf(name), iters=20, interval=20)
    assert place.call('train', config, '--work-dir', name) == 0
    losses = logged(place.root / name)
    assert len(losses) == 20
    first, last = (sum(losses[i] for i in steps) for steps in (range(1, 4), range(18, 21)))
    assert last < 0.8 * first

    checkpoint = place.root / name / 'iter_20.pth'
    state = load(checkpoint)['state_dict']
    assert {n.split('.')[0] for n in state} == {'backbone', 'neck', 'decode_head'}
    assert not [n for n in state if n.startswith('backbone.trunk.')]
    adapted = {n.split('.')[3] for n in state if n.startswith('backbone.adapters.')}
    assert adapted == {str(i) for i in range(tiny.depth)}
    assert any(v.any() for n, v in state.items() if n.endswith('.up.weight'))
    assert all(torch.isfinite(v).all() for v in state.values())
    assert place.call('test', config, checkpoint, '--work-dir', f'{name}-test') == 0
