"""Adapter against its equation, and what is particular to it."""

import numpy as np
import pytest

from mmsigma.errors import InvalidSettingError
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.adapter import Adapter, BottleneckAdapter
from tests.models.tuners import loops
from tests.models.tuners.loops import gelu, linear
from tests.tiny import backbone


def make(dropout: float = 0.1, zero_init: bool = True) -> BottleneckAdapter:
    return loops.random(BottleneckAdapter(loops.WIDTH, 4, dropout, zero_init))


@pytest.mark.parametrize('layout', loops.PLACES, ids=str)
def test_equals_the_equation(layout: TokenLayout) -> None:
    adapter = make()
    p = loops.values(adapter)

    def update(tokens: np.ndarray) -> np.ndarray:
        inside = [gelu(linear(t, p['down.weight'], p['down.bias'])) for t in tokens]
        return np.stack([linear(z, p['up.weight'], p['up.bias']) for z in inside])

    loops.check_equal(adapter, layout, update)


def test_gradients_are_the_derivatives() -> None:
    loops.check_gradients(make())


def test_dropout_in_training_only() -> None:
    loops.check_dropout(make(dropout=0.5))


def test_two_per_block() -> None:
    own = backbone('dinov2', 'Adapter')
    assert loops.places(own) == {i: ['after_attention', 'after_mlp'] for i in '01'}


def test_start() -> None:
    zero, other = (BottleneckAdapter(6, 4, 0.1, zero_init) for zero_init in (True, False))
    assert not zero.up.weight.any() and not zero.up.bias.any() and zero.down.weight.any()
    assert other.up.weight.any() and other.up.bias.any()
    own = backbone('dinov2', {'type': 'Adapter', 'bottleneck': 4, 'zero_init': False})
    assert not loops.starts_as(own, backbone('dinov2', 'Frozen'))


def test_settings() -> None:
    assert Adapter().settings() == {'type': 'Adapter', 'bottleneck': 64, 'zero_init': True}
    assert Adapter().dropout == 0.1


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('bottleneck', 0),
        ('bottleneck', 1.5),
        ('bottleneck', True),
        ('dropout', 1),
        ('dropout', -0.1),
        ('dropout', 'a'),
    ],
)
def test_invalid_settings(option: str, value: object) -> None:
    with pytest.raises(InvalidSettingError, match=f'Adapter {option} .*given: {value!r}'):
        Adapter(**{option: value})


def test_a_bottleneck_wider_than_the_trunk() -> None:
    assert backbone('dinov2', {'type': 'Adapter', 'bottleneck': 32})
    with pytest.raises(InvalidSettingError, match=r'bottleneck 33 .* trunk, 32: use at most 32'):
        backbone('dinov2', {'type': 'Adapter', 'bottleneck': 33})
