"""AdaptFormer against its equation, and what is particular to it."""

import numpy as np
import pytest
import torch

from mmsigma.errors import InvalidSettingError
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.adaptformer import AdaptFormer, AdaptFormerAdapter
from tests.models.tuners import loops
from tests.models.tuners.loops import linear
from tests.tiny import backbone, images, shake


def make(scale: float = 0.1, dropout: float = 0.1) -> AdaptFormerAdapter:
    return loops.random(AdaptFormerAdapter(loops.WIDTH, 4, dropout, True, scale))


@pytest.mark.parametrize('scale', [0.1, -2])
@pytest.mark.parametrize('layout', loops.PLACES, ids=str)
def test_equals_the_equation(layout: TokenLayout, scale: float) -> None:
    adapter = make(scale)
    p = loops.values(adapter)

    def update(tokens: np.ndarray) -> np.ndarray:
        out = []
        for token in tokens:
            inside = [max(z, 0) for z in linear(token, p['down.weight'], p['down.bias'])]
            out.append(scale * linear(inside, p['up.weight'], p['up.bias']))
        return np.stack(out)

    loops.check_equal(adapter, layout, update)


def test_gradients_are_the_derivatives() -> None:
    loops.check_gradients(make())


def test_dropout_in_training_only() -> None:
    loops.check_dropout(make(dropout=0.5))


def test_one_per_block_on_what_the_mlp_branch_begins_with() -> None:
    own = backbone('dinov2', 'AdaptFormer')
    assert loops.places(own) == {i: ['parallel_mlp'] for i in '01'}
    shake(own)
    block, read = own.trunk.blocks()[0], []
    adapter = own.adapters.at['0']['parallel_mlp']
    adapter.register_forward_hook(lambda module, inputs, output: read.append(inputs[0]))
    with torch.no_grad():
        own(images())
        tokens, state = own.trunk.embed(images())
        base, branch, _ = block.attention(tokens, state)
    assert torch.equal(read[0], base + branch)  # not normed


def test_start() -> None:
    zero, other = (AdaptFormerAdapter(6, 4, 0.1, zero_init, 0.1) for zero_init in (True, False))
    assert not zero.up.weight.any() and not zero.up.bias.any() and not zero.down.bias.any()
    assert zero.down.weight.any() and other.up.weight.any()


def test_settings() -> None:
    assert AdaptFormer().settings() == {
        'type': 'AdaptFormer',
        'bottleneck': 64,
        'scale': 0.1,
        'zero_init': True,
    }
    assert AdaptFormer().dropout == 0.1


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('bottleneck', 0),
        ('bottleneck', '64'),
        ('dropout', 1),
        ('scale', 0),
        ('scale', float('nan')),
        ('scale', 'learned'),
    ],
)
def test_invalid_settings(option: str, value: object) -> None:
    with pytest.raises(InvalidSettingError, match=f'AdaptFormer {option} .*given: {value!r}'):
        AdaptFormer(**{option: value})


def test_a_bottleneck_wider_than_the_trunk() -> None:
    with pytest.raises(InvalidSettingError, match=r'AdaptFormer bottleneck 64 .*use at most 32'):
        backbone('dinov2', {'type': 'AdaptFormer'})
