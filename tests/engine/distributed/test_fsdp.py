"""Sharded models compute what whole ones do, for every tuner and every family of trunks."""

import copy

import pytest
import torch
from torch.distributed.tensor import DTensor

from mmsigma.engine.distributed.fsdp import shard
from mmsigma.engine.distributed.units import units
from tests import tiny
from tests.engine.distributed.group import group_of_one
from tests.sample import sampled
from tests.tiny_trunks import TRUNKS

CASES = [(tuner, 'registers') for tuner in tiny.TUNERS if tuner != 'Frozen']
CASES += [('SIGMA', trunk) for trunk in TRUNKS if trunk != 'registers']
CASES += [('VPT', 'mmpretrain-swin'), ('HFPeft', 'beit')]
CASES = [(tuner, trunk, {}) for tuner, trunk in CASES if tiny.carries(trunk, tuner)]
CASES += [('SIGMA', trunk, {'with_cp': True}) for trunk in ('registers', 'swin', 'hieradet')]
CASES += [('HFPeft', 'registers', {'with_cp': True}), ('Full', 'registers', {'with_cp': True})]


@pytest.fixture(scope='module', autouse=True)
def group():
    with group_of_one():
        yield


@pytest.mark.parametrize(
    ('tuner', 'trunk', 'options'),
    sampled(CASES, lambda case: case[1] == 'registers' or case[1] in tiny.KINDS),
)
def test_shards_compute_what_the_whole_does(tuner, trunk, options):
    model = tiny.backbone(trunk, tuner, **options)
    tiny.shake(model)
    images = tiny.images(trunk)
    expected = model(images)
    tiny.loss(expected).backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    model.zero_grad()

    numbers = shard(model, min_params=1, reshard=True)
    found = model(images)
    for map_, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(map_, wanted, rtol=1e-5, atol=1e-5)
    tiny.loss(found).backward()
    for name, parameter in model.named_parameters():
        single = any(parameter is number for number in numbers)
        assert isinstance(parameter, DTensor) != single, name
        if name not in gradients:
            assert parameter.grad is None, name
            continue
        gradient = parameter.grad if single else parameter.grad.full_tensor()
        torch.testing.assert_close(gradient, gradients[name], rtol=1e-4, atol=1e-4)
    # Between the passes nothing is whole, and names are what they were.
    state = model.state_dict()
    assert state.keys() == kept.keys()


def test_units_are_the_largest_modules_that_are_called():
    model = tiny.backbone('registers')
    blocks = [block.module for block in model.trunk.blocks()]
    # Upstream's block is not called: its two steps run apart.
    assert not set(units(model, 1)) & set(blocks)
    largest = units(model, 1000)
    assert largest == [m for block in blocks for m in (block.attn, block.mlp)]
    assert units(model, 10**9) == []


def test_units_leave_the_mode():
    for training in (True, False):
        model = tiny.backbone('registers').train(training)
        units(model, 1)
        assert {module.training for module in model.adapters.modules()} == {training}


def test_units_leave_no_trace():
    model = tiny.backbone('registers').train()
    hooks = [copy.copy(m._forward_pre_hooks) for m in model.modules()]
    units(model, 1)
    assert [copy.copy(m._forward_pre_hooks) for m in model.modules()] == hooks
    assert model.training and all(p.grad is None for p in model.parameters())
