"""Rein against its equations, and that what blocks share exists once."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import EMAHook
from torch import nn

from mmsigma.errors import InvalidSettingError
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.injection import ModuleReference
from mmsigma.models.tuners.rein import Rein, ReinAdapter, ReinShared
from tests.models.tuners import loops
from tests.models.tuners.loops import linear, softmax
from tests.tiny import backbone, images, shake

TOKENS, RANK = 5, 2


def make() -> tuple[ReinAdapter, ReinShared]:
    shared = loops.random(ReinShared(loops.WIDTH, 0.001, False))
    adapter = ReinAdapter(loops.WIDTH, TOKENS, RANK, 16, ModuleReference(shared))
    return loops.random(adapter), shared


@pytest.mark.parametrize('layout', loops.PLACES, ids=str)
def test_equals_the_equations(layout: TokenLayout) -> None:
    adapter, shared = make()
    p, w = loops.values(adapter), loops.values(shared)
    learned = np.stack([linear(row, p['b'].T, None) for row in p['a']])
    features = np.stack([linear(token, w['wt.weight'], w['wt.bias']) for token in learned])

    def update(tokens: np.ndarray) -> np.ndarray:
        out = np.zeros_like(tokens)
        for n in range(layout.prefix, len(tokens)):
            attention = softmax(linear(tokens[n], learned, None) / math.sqrt(loops.WIDTH))
            found = tokens[n].copy()
            for i in range(1, TOKENS):  # the first token is a sink
                found += attention[i] * features[i]
            out[n] = w['scale'] * linear(found, w['wf.weight'], w['wf.bias'])
        return out

    loops.check_equal(adapter, layout, update)


def test_gradients_are_the_derivatives() -> None:
    adapter, shared = make()
    loops.check_gradients(adapter, shared)


def test_one_behind_every_block_and_one_shared_part() -> None:
    own = backbone('dinov2', 'Rein')
    assert loops.places(own) == {i: ['after_block'] for i in '01'}
    names = [name for name, _ in own.adapters.named_parameters()]
    shared = ['scale', 'wt.weight', 'wt.bias', 'wf.weight', 'wf.bias']
    expected = [f'at.{i}.after_block.{x}' for i in '01' for x in 'ab']
    assert names == expected + [f'shared.stage0_width32.{x}' for x in shared]
    assert list(own.adapters.state_dict()) == names  # saved once, too
    count = sum(p.numel() for p in own.adapters.parameters())
    assert count == 2 * (6 * 2 + 2 * 32) + 2 * (32 * 32 + 32) + 1
    first, second = (own.adapters.at[i]['after_block'].shared.module for i in '01')
    assert first is second is own.adapters.shared['stage0_width32']


def test_stages_share_apart() -> None:
    own = backbone('swin', 'Rein')
    assert list(own.adapters.shared) == ['stage0_width16', 'stage1_width32']
    used = [at['after_block'].shared.module for at in own.adapters.at.values()]
    assert used[0] is used[1] is not used[2] and used[2] is used[3]
    assert [module.wt.in_features for module in used] == [16, 16, 32, 32]


def test_copies_share_among_themselves() -> None:
    own = backbone('dinov2', 'Rein')
    twin = copy.deepcopy(own)
    shared = twin.adapters.shared['stage0_width32']
    assert shared is not own.adapters.shared['stage0_width32']
    assert all(at['after_block'].shared.module is shared for at in twin.adapters.at.values())


@pytest.mark.parametrize('update_buffers', [False, True])
def test_averaged_once(update_buffers: bool) -> None:
    """A parameter registered twice would be averaged twice where buffers are averaged too."""
    model = nn.ModuleDict({'backbone': backbone('dinov2', 'Rein')})
    hook = EMAHook(momentum=0.25, update_buffers=update_buffers)
    run = SimpleNamespace(model=model, iter=0, epoch=0, _resume=True)
    hook.before_run(run)
    hook.after_train_iter(run, 0)
    shared = model['backbone'].adapters.shared['stage0_width32']
    before = shared.wf.weight.detach().clone()
    shake(model)
    hook.after_train_iter(run, 0)
    average = hook.ema_model.module['backbone'].adapters.shared['stage0_width32'].wf.weight
    assert torch.equal(average, before.lerp(shared.wf.weight, 0.25))


def test_start() -> None:
    own = backbone('dinov2', {'type': 'Rein', 'tokens': 50, 'rank': 4})
    shared = own.adapters.shared['stage0_width32']
    assert shared.scale.shape == () and shared.scale.item() == pytest.approx(0.001)
    bound = math.sqrt(6 / (3 * 14 * 14 + math.sqrt(32 * 4)))
    for parameter in own.adapters.at['0']['after_block'].parameters():
        assert 0.9 * bound < parameter.abs().max() <= bound
    # Close to the trunk, but not equal to it.
    with torch.no_grad():
        maps, frozen = own(images()), backbone('dinov2', 'Frozen')(images())
    distances = [float((a - b).norm() / b.norm()) for a, b in zip(maps, frozen, strict=True)]
    assert all(0 < distance < 0.01 for distance in distances)


def test_settings() -> None:
    assert Rein().settings() == {
        'type': 'Rein',
        'tokens': 100,
        'rank': 16,
        'scale': 0.001,
        'zero_init': False,
    }


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'tokens': 0}, 'Rein tokens must be a whole number >= 1; given: 0'),
        ({'tokens': 1, 'rank': 1}, 'Rein tokens must be at least 2.*sink; given: 1'),
        ({'rank': 0}, 'Rein rank must be .* >= 1; given: 0'),
        ({'tokens': 8, 'rank': 9}, 'Rein rank 9 is above the number of tokens, 8'),
        ({'scale': 0}, 'Rein scale is a finite number other than 0; given: 0'),
        ({'scale': float('inf')}, 'Rein scale .*given: inf'),
    ],
)
def test_invalid_settings(settings: dict, message: str) -> None:
    with pytest.raises(InvalidSettingError, match=message):
        Rein(**settings)


def test_a_rank_above_the_width() -> None:
    with pytest.raises(InvalidSettingError, match=r'Rein rank 33 .* trunk, 32: use at most 32'):
        backbone('dinov2', {'type': 'Rein', 'rank': 33})
