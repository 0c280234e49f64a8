"""LoRand against its equations, and what is particular to it."""

import numpy as np
import pytest

from mmsigma.errors import InvalidSettingError
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.lorand import LoRand, LoRandAdapter
from tests.models.tuners import loops
from tests.models.tuners.loops import gelu, linear
from tests.tiny import backbone


def make(branches: int = 2, bottleneck: int = 4, zero_init: bool = False) -> LoRandAdapter:
    return LoRandAdapter(loops.WIDTH, bottleneck, branches, 2, zero_init)


def synthesise(p: np.ndarray, k: np.ndarray, q: np.ndarray) -> np.ndarray:
    """``sum_i P_i K_i Q_i``, one product at a time."""
    weight = np.zeros((p.shape[1], q.shape[2]))
    for branch in range(len(p)):
        for i in range(p.shape[1]):
            for j in range(q.shape[2]):
                for a in range(k.shape[1]):
                    for b in range(k.shape[2]):
                        weight[i, j] += p[branch, i, a] * k[branch, a, b] * q[branch, b, j]
    return weight


@pytest.mark.parametrize('branches', [1, 2, 4])
@pytest.mark.parametrize('layout', loops.PLACES, ids=str)
def test_equals_the_equations(layout: TokenLayout, branches: int) -> None:
    adapter = loops.random(make(branches))
    p = loops.values(adapter)
    down, up = (synthesise(*(p[f'{part}.{x}'] for x in 'pkq')) for part in ('down', 'up'))

    def update(tokens: np.ndarray) -> np.ndarray:
        inside = [gelu(linear(t, down.T, p['down.bias'])) for t in tokens]
        return np.stack([linear(z, up.T, p['up.bias']) for z in inside])

    loops.check_equal(adapter, layout, update)


def test_gradients_are_the_derivatives() -> None:
    loops.check_gradients(loops.random(make()))


def test_two_per_block_of_half_the_width() -> None:
    own = backbone('dinov2', 'LoRand')
    assert loops.places(own) == {i: ['after_attention', 'after_mlp'] for i in '01'}
    adapter = own.adapters.at['0']['after_mlp']
    assert adapter.down.p.shape == (2, 32, 2) and adapter.down.q.shape == (2, 2, 16)
    assert adapter.up.p.shape == (2, 16, 2) and adapter.up.q.shape == (2, 2, 32)
    widths = [
        at['after_mlp'].down.q.shape[2] for at in backbone('swin', 'LoRand').adapters.at.values()
    ]
    assert widths == [8, 8, 16, 16]
    narrow = backbone('dinov2', {'type': 'LoRand', 'rank': 2, 'bottleneck': 5})
    assert narrow.adapters.at['0']['after_mlp'].down.q.shape == (2, 2, 5)


def test_start() -> None:
    """Uniform, within one over the square root of what each factor sums over; or zero."""
    adapter = LoRandAdapter(64, 32, 4, 4, False)
    bounds = {'p': 4, 'k': 4, 'down.q': 32, 'up.q': 64, 'down.bias': 64, 'up.bias': 32}
    for name, parameter in adapter.named_parameters():
        fan = bounds.get(name, bounds.get(name[-1]))
        assert 0.8 * fan**-0.5 < parameter.abs().max() <= fan**-0.5, name
    zero = make(zero_init=True)
    assert not zero.up.q.any() and not zero.up.bias.any()
    assert zero.up.p.any() and zero.up.k.any() and zero.down.q.any()


def test_settings() -> None:
    assert LoRand().settings() == {
        'type': 'LoRand',
        'branches': 2,
        'rank': 8,
        'bottleneck': None,
        'zero_init': False,
    }


@pytest.mark.parametrize(
    ('option', 'value'), [('branches', 0), ('rank', 0), ('rank', 2.0), ('bottleneck', 0)]
)
def test_invalid_settings(option: str, value: object) -> None:
    with pytest.raises(InvalidSettingError, match=f'LoRand {option} .*given: {value!r}'):
        LoRand(**{option: value})


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'bottleneck': 33}, 'LoRand bottleneck 33 .* trunk, 32: use at most 32'),
        ({'rank': 17}, 'LoRand rank 17 .* its bottleneck, 16: use at most 16'),
        ({'rank': 5, 'bottleneck': 4}, 'LoRand rank 5 .* its bottleneck, 4: use at most 4'),
    ],
)
def test_too_wide_for_the_trunk(settings: dict, message: str) -> None:
    with pytest.raises(InvalidSettingError, match=message):
        backbone('dinov2', {'type': 'LoRand', **settings})
