"""Parameters of equal settings in one group: the same training, in a few steps of the optimiser."""

import argparse
from typing import Any

import pytest
import torch
from mmengine.optim import build_optim_wrapper

from mmsigma.engine import launch
from mmsigma.models.adapted_backbone import AdaptedBackbone
from tests.fixtures import LEAF
from tests.tiny import backbone, images, loss

RULES: dict[str, dict[str, Any]] = {
    'decay': dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    'rates': dict(custom_keys={'fusion': dict(lr_mult=0.1, decay_mult=0.5), 'up': dict(lr_mult=3)}),
}


def train(rules: dict[str, Any], **options: Any) -> tuple[AdaptedBackbone, Any]:
    own = backbone('registers', 'SIGMA').train()
    optimiser = dict(type='AdamW', lr=1e-2, weight_decay=0.05)
    config = dict(optimizer=optimiser, paramwise_cfg=rules, clip_grad=dict(max_norm=1.0), **options)
    optim = build_optim_wrapper(own, config)
    for _ in range(3):
        optim.update_params(loss(own(images('registers'))))
    return own, optim


@pytest.mark.parametrize(('rules', 'groups'), [('decay', 2), ('rates', 3)])
def test_it_trains_as_mmengines_own(rules: str, groups: int) -> None:
    own, optim = train(RULES[rules], constructor='mmsigma.GroupedOptimWrapperConstructor')
    usual, theirs = train(RULES[rules])
    # The last of both is MMEngine's own, for the rate that it reports.
    assert len(optim.param_groups) == groups + 1 < len(theirs.param_groups) / 5
    grouped = {id(p) for group in optim.param_groups[:-1] for p in group['params']}
    assert grouped == {id(p) for p in own.parameters() if p.requires_grad}
    pairs = zip(own.adapters.parameters(), usual.adapters.parameters(), strict=True)
    for one, two in pairs:
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ('options', 'constructor'),
    [
        ({}, 'mmsigma.GroupedOptimWrapperConstructor'),
        ({'optim_wrapper.constructor': 'Other'}, 'Other'),
        ({'optim_wrapper.paramwise_cfg': None}, None),
    ],
)
def test_launchers_choose_it_where_a_config_names_none(options: Any, constructor: Any) -> None:
    args = argparse.Namespace(config=LEAF, cfg_options=options, launcher='none', local_rank=0)
    args.work_dir = None
    assert launch.load_config(args).optim_wrapper.get('constructor') == constructor
