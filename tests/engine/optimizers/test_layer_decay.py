"""Learning rate and weight decay of every parameter, against tables written by hand."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

import mmsigma  # noqa: F401  (the registries)
from mmsigma.errors import InvalidSettingError, MMSigmaError, UnknownNameError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from tests.fixtures import ROOT
from tests.tiny import TRUNKS, TUNERS, backbone, images, loss, sigma

LR, DECAY = 1.0, 0.1
# Beginnings of names and the rates below them, for decay_rate=0.5; the first that fits holds.
RATES = {
    'dinov2': {  # two blocks
        'head': 1,
        'neck': 1,
        'backbone.trunk.model.norm': 1,
        'backbone.trunk.model.blocks.1': 1 / 2,
        'backbone.trunk.model.blocks.0': 1 / 4,
        'backbone.trunk.model.cls_token': 1 / 8,
        'backbone.trunk.model.pos_embed': 1 / 8,
        'backbone.trunk.model.patch_embed': 1 / 8,
    },
    'swin': {  # two stages of two blocks, merging in between
        'head': 1,
        'neck': 1,
        'backbone.trunk.model.norm': 1,
        'backbone.trunk.model.layers.1.blocks.1': 1 / 2,
        'backbone.trunk.model.layers.1.blocks.0': 1 / 4,
        'backbone.trunk.model.layers.1.downsample': 1 / 4,
        'backbone.trunk.model.layers.0.blocks.1': 1 / 8,
        'backbone.trunk.model.layers.0.blocks.0': 1 / 16,
        'backbone.trunk.model.patch_embed': 1 / 32,
    },
    'mmpretrain-swin': {  # the same, with merging at the end of a stage and a norm per output
        'head': 1,
        'neck': 1,
        'backbone.trunk.model.norm1': 1,
        'backbone.trunk.model.stages.1.blocks.1': 1 / 2,
        'backbone.trunk.model.stages.1.blocks.0': 1 / 4,
        'backbone.trunk.model.stages.0.downsample': 1 / 4,
        'backbone.trunk.model.stages.0.blocks.1': 1 / 8,
        'backbone.trunk.model.stages.0.blocks.0': 1 / 16,
        'backbone.trunk.model.patch_embed': 1 / 32,
    },
    'hiera': {  # four blocks that pool inside
        'head': 1,
        'neck': 1,
        'backbone.trunk.model.blocks.3': 1 / 2,
        'backbone.trunk.model.blocks.2': 1 / 4,
        'backbone.trunk.model.blocks.1': 1 / 8,
        'backbone.trunk.model.blocks.0': 1 / 16,
        'backbone.trunk.model.patch_embed': 1 / 32,
        'backbone.trunk.model.pos_embed': 1 / 32,
    },
}
# Ends of the names of what decays; norms, biases, layer scales and class tokens do not.
DECAYS = re.compile(
    r'((qkv|fc1|fc2|proj|projection|reduction|attn\.proj|ffn\.layers\.(0\.0|1))\.weight'
    r'|(blocks\.\d\.proj|downsample\.reduction)\.weight'
    r'|pos_embed|relative_position_bias_table|(neck|head)\.weight)$'
)


class Model(nn.Module):
    """A backbone with something like a neck and a head, of a single output."""

    def __init__(self, own: AdaptedBackbone) -> None:
        super().__init__()
        self.backbone = own
        self.neck = nn.Conv2d(own.out_channels[-1], 4, 1)
        self.neck_norm = nn.GroupNorm(2, 4)
        self.head = nn.Linear(4, 1)


def groups(
    model: nn.Module, optimizer: dict[str, Any] | None = None, **paramwise: Any
) -> dict[str, tuple[float, float]]:
    """Rate and decay of each parameter in the optimiser, by name."""
    wrapper = build_optim_wrapper(
        model,
        {
            'type': 'OptimWrapper',
            'constructor': 'mmsigma.LayerDecayOptimWrapperConstructor',
            'optimizer': optimizer or {'type': 'AdamW', 'lr': LR, 'weight_decay': DECAY},
            'paramwise_cfg': paramwise or None,
        },
    )
    names = {id(p): name for name, p in model.named_parameters()}
    found = [
        (names[id(p)], (group['lr'], group['weight_decay']))
        for group in wrapper.optimizer.param_groups
        for p in group['params']
    ]
    assert len(dict(found)) == len(found), 'a parameter in two places'
    return dict(found)


def rate_of(name: str, trunk: str) -> float:
    return next(rate for start, rate in RATES[trunk].items() if name.startswith(start))


# --- Full fine-tuning -----------------------------------------------------------------------


@pytest.mark.parametrize('trunk', RATES)
def test_every_parameter(trunk: str) -> None:
    model = Model(backbone(trunk, 'Full'))
    found = groups(model, decay_rate=0.5)
    assert found == {
        name: (rate_of(name, trunk), DECAY if DECAYS.search(name) else 0)
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    if trunk == 'dinov2':  # a few of them without any rule
        start = 'backbone.trunk.model.'
        assert found[f'{start}blocks.0.attn.qkv.weight'] == (0.25, 0.1)
        assert found[f'{start}blocks.0.attn.qkv.bias'] == (0.25, 0)
        assert found[f'{start}blocks.1.ls2.gamma'] == (0.5, 0)
        assert found[f'{start}blocks.1.norm1.weight'] == (0.5, 0)
        assert found[f'{start}cls_token'] == (0.125, 0)
        assert found[f'{start}pos_embed'] == (0.125, 0.1)
        assert found['neck_norm.weight'] == (1, 0)
        assert found['head.weight'] == (1, 0.1)  # (1, 4): a matrix, whatever it looks like


@pytest.mark.parametrize('trunk', TRUNKS)
def test_every_family_rises_from_the_patches_to_the_head(trunk: str) -> None:
    own = backbone(trunk, 'Full')
    found = groups(own, decay_rate=0.5)
    trains = {name for name, p in own.named_parameters() if p.requires_grad}
    assert found.keys() == trains
    depth = own.out_indices[-1] + 1
    lowest = {name for name, (rate, _) in found.items() if rate == 0.5 ** (depth + 1)}
    assert any(re.search(r'patch_embed|stem', name) for name in lowest)
    names = {id(p): name for name, p in own.named_parameters()}
    for index, block in enumerate(own.trunk.blocks()):
        rates = {found[names[id(p)]][0] for p in block.module.parameters() if p.requires_grad}
        assert rates == {0.5 ** (depth - index)}
    assert {rate for rate, _ in found.values()} <= {0.5**i for i in range(depth + 2)}


def test_blocks_behind_the_last_output_do_not_count() -> None:
    own = backbone('dinov2', 'Full', out_indices=[0])
    found = groups(own, decay_rate=0.5)
    rates = {name.removeprefix('trunk.model.')[:8]: rate for name, (rate, _) in found.items()}
    assert rates['blocks.0'] == 0.5 and rates['patch_em'] == 0.25 and rates['norm.wei'] == 1
    assert 'blocks.1' not in rates


def test_alike_parameters_share_a_group() -> None:
    model = Model(backbone('dinov2', 'Full'))
    cfg = {
        'constructor': 'mmsigma.LayerDecayOptimWrapperConstructor',
        'optimizer': {'type': 'AdamW', 'lr': LR, 'weight_decay': DECAY},
        'paramwise_cfg': {'decay_rate': 0.5},
    }
    optimizer = build_optim_wrapper(model, cfg).optimizer
    found = [(group['lr'], group['weight_decay']) for group in optimizer.param_groups]
    assert len(found) == len(set(found)) == 8  # four rates, with decay and without


def test_a_step_moves_layers_by_their_rates() -> None:
    """AdamW's first step is the rate, in every value that has a gradient."""
    own = backbone('dinov2', 'Full')
    cfg = {
        'constructor': 'mmsigma.LayerDecayOptimWrapperConstructor',
        'optimizer': {'type': 'AdamW', 'lr': 0.01, 'weight_decay': 0.0, 'eps': 1e-20},
        'paramwise_cfg': {'decay_rate': 0.5},
    }
    wrapper = build_optim_wrapper(own, cfg)
    blocks: Any = own.trunk.model.blocks
    before = [block.attn.proj.weight.detach().clone() for block in blocks]
    wrapper.update_params(loss(own(images())))
    for rate, weight, block in zip((0.0025, 0.005), before, blocks, strict=True):
        moved = (block.attn.proj.weight - weight).abs().median()
        assert torch.isclose(moved, torch.tensor(rate), rtol=1e-2)


# --- Tuners: the plain rule -----------------------------------------------------------------


@pytest.mark.parametrize('tuner', [t for t in TUNERS if t != 'Frozen'])
def test_frozen_parameters_have_no_group(tuner: str) -> None:
    own = backbone('registers', tuner)
    found = groups(own)
    assert found.keys() == {name for name, p in own.named_parameters() if p.requires_grad}
    assert {rate for rate, _ in found.values()} == {LR}


def test_a_frozen_backbone_leaves_neck_and_head() -> None:
    found = groups(Model(backbone('dinov2', 'Frozen')), decay_rate=0.5)
    assert found == {
        'neck.weight': (1, 0.1),
        'neck.bias': (1, 0),
        'neck_norm.weight': (1, 0),
        'neck_norm.bias': (1, 0),
        'head.weight': (1, 0.1),
        'head.bias': (1, 0),
    }


@pytest.mark.parametrize('rate', [1, 0.5])
def test_adapters_learn_at_the_full_rate_and_vectors_do_not_decay(rate: float) -> None:
    own = backbone('registers', sigma(scale='learned'))
    found = groups(own, decay_rate=rate)
    shapes = {name: p.shape for name, p in own.named_parameters() if p.requires_grad}
    assert found == {name: (1, 0.1 if len(s) > 1 else 0) for name, s in shapes.items()}
    assert any(name.endswith('.scale') for name in found)
    rein = groups(backbone('registers', 'Rein'))
    (scale,) = (name for name in rein if name.endswith('.scale'))  # a single number, of no axis
    assert rein[scale] == (1, 0)
    assert rein['adapters.at.0.after_block.a'] == (1, 0.1)


def test_what_trains_inside_a_block_goes_with_it() -> None:
    found = groups(backbone('dinov2', 'HFPeft'), decay_rate=0.5)
    assert {rate for name, (rate, _) in found.items() if '.blocks.0.' in name} == {0.25}
    assert {rate for name, (rate, _) in found.items() if '.blocks.1.' in name} == {0.5}
    last = groups(backbone('dinov2', 'Partial'), decay_rate=0.5)
    assert {rate for rate, _ in last.values()} == {0.5}


# --- Together with MMEngine's settings ------------------------------------------------------


def test_custom_keys_multiply() -> None:
    keys = {
        'backbone': {'lr_mult': 0.5},
        'pos_embed': {'decay_mult': 0},
        'head.bias': {'decay_mult': 2},
    }
    found = groups(Model(backbone('dinov2', 'Full')), decay_rate=0.5, custom_keys=keys)
    start = 'backbone.trunk.model.'
    assert found[f'{start}blocks.1.attn.qkv.weight'] == (0.25, 0.1)
    assert found[f'{start}blocks.1.attn.qkv.bias'] == (0.25, 0)
    assert found[f'{start}norm.weight'] == (0.5, 0)
    assert found[f'{start}pos_embed'] == (0.125, 0)  # the longer key wins, as in MMEngine
    assert found['neck.weight'] == (1, 0.1)
    assert found['head.bias'] == (1, 0.2)


def test_decay_of_norms_biases_and_vectors_can_be_set() -> None:
    model = Model(backbone('dinov2', 'Full'))
    start = 'backbone.trunk.model.blocks.0.'
    for given in ('norm', 'bias', 'flat'):
        found = groups(model, **{f'{given}_decay_mult': 1.0})
        decays = {
            'norm': found[f'{start}norm1.bias'][1],
            'bias': found[f'{start}attn.qkv.bias'][1],
            'flat': found[f'{start}ls1.gamma'][1],
        }
        assert decays == {name: DECAY * (name == given) for name in decays}


def test_without_weight_decay() -> None:
    optimizer = {'type': 'SGD', 'lr': 2.0}
    found = groups(Model(backbone('dinov2', 'Full')), optimizer, decay_rate=0.5)
    assert {decay for _, decay in found.values()} == {0}
    assert found['backbone.trunk.model.blocks.0.norm1.bias'] == (0.5, 0)


def test_a_module_in_two_places_is_in_one_group() -> None:
    model = Model(backbone('dinov2', 'Full'))
    model.twin = nn.Sequential(model.head)
    assert groups(model, decay_rate=0.5).keys() == dict(model.named_parameters()).keys()


@pytest.mark.parametrize('scope', ['mmengine', 'mmseg', 'mmdet', 'mmsigma'])
def test_builds_under_any_default_scope(scope: str) -> None:
    with DefaultScope.overwrite_default_scope(scope):
        assert groups(backbone('dinov2', 'Full'), decay_rate=0.5)


def test_the_option_file(tmp_path: Path) -> None:
    schedules = ROOT / 'configs/_base_/schedules'
    leaf = tmp_path / 'leaf.py'
    leaf.write_text(
        f"_base_ = ['{schedules}/adamw_4k.py', '{schedules}/layer_decay.py']\n"
        'optim_wrapper = _base_.layer_decay\n'
    )
    config = Config.fromfile(leaf)
    model = Model(backbone('dinov2', 'Full'))
    optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
    rates = {id(p): g['lr'] for g in optimizer.param_groups for p in g['params']}
    base = config.optim_wrapper.optimizer.lr
    trunk: Any = model.backbone.trunk.model
    assert rates[id(model.head.weight)] == base
    # The schedule's own tenth inside the backbone, times the layer's.
    assert rates[id(trunk.norm.weight)] == pytest.approx(0.1 * base)
    assert rates[id(trunk.blocks[0].ls1.gamma)] == pytest.approx(0.1 * base * 0.7**2)


# --- Bad settings ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('paramwise', 'error', 'parts'),
    [
        ({'decay_rate': 0}, InvalidSettingError, ['given: 0', 'at most 1']),
        ({'decay_rate': 1.1}, InvalidSettingError, ['given: 1.1']),
        ({'decay_rate': -0.5}, InvalidSettingError, ['given: -0.5']),
        ({'decay_rate': float('nan')}, InvalidSettingError, ['given: nan']),
        ({'decay_rate': True}, InvalidSettingError, ['given: True']),
        ({'decay_rate': '0.7'}, InvalidSettingError, ["given: '0.7'"]),
        ({'layer_decay_rate': 0.7}, UnknownNameError, ["'layer_decay_rate'", "'decay_rate'"]),
        ({'norm_decay': 0}, UnknownNameError, ["'norm_decay'", "'norm_decay_mult'"]),
    ],
    ids=str,
)
def test_bad_settings(paramwise: dict, error: type[MMSigmaError], parts: list[str]) -> None:
    with pytest.raises(error) as caught:
        groups(backbone(), **paramwise)
    assert all(part in str(caught.value) for part in parts), caught.value


def test_settings_that_are_no_dict() -> None:
    with pytest.raises(InvalidSettingError, match=r'norm_decay_mult=0\.0\); given: 0\.5'):
        build_optim_wrapper(
            backbone(),
            {
                'constructor': 'mmsigma.LayerDecayOptimWrapperConstructor',
                'optimizer': {'type': 'AdamW', 'lr': LR},
                'paramwise_cfg': 0.5,
            },
        )


def test_no_rate_to_multiply() -> None:
    with pytest.raises(InvalidSettingError, match=r"needs the learning rate.*'AdamW'"):
        groups(backbone(), {'type': 'AdamW'})


def test_no_trunk_to_decay_in() -> None:
    with pytest.raises(InvalidSettingError, match=r'no trunk to decay in: Conv2d has no mmsigma'):
        groups(nn.Conv2d(3, 3, 1), decay_rate=0.5)
    assert groups(nn.Conv2d(3, 3, 1)) == {'weight': (1, 0.1), 'bias': (1, 0)}
