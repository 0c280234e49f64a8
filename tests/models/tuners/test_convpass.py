"""Convpass against its equations, and that it reads the trunk's norms without owning them."""

import copy

import numpy as np
import pytest
import torch

from mmsigma.errors import InvalidSettingError
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.convpass import Convpass, ConvpassAdapter
from tests.models.tuners import loops
from tests.models.tuners.loops import convolve, linear, quick_gelu
from tests.tiny import TRUNKS, backbone, carries, images, padded, shake


def make(scale: float = 1.0, dropout: float = 0.1, zero_init: bool = True) -> ConvpassAdapter:
    return ConvpassAdapter(loops.norm(), loops.WIDTH, 4, dropout, zero_init, scale)


@pytest.mark.parametrize('scale', [1.0, 0.3])
@pytest.mark.parametrize('layout', loops.PLACES, ids=str)
def test_equals_the_equations(layout: TokenLayout, scale: float) -> None:
    adapter = loops.random(make(scale))
    p, norm = loops.values(adapter), loops.values(adapter.norm.module)

    def update(tokens: np.ndarray) -> np.ndarray:
        z = []
        for token in tokens:
            x = loops.layer_norm(token, norm['weight'], norm['bias'], 1e-3)
            z.append(quick_gelu(linear(x, p['down.weight'], p['down.bias'])))
        parts = [np.stack([[token]]) for token in z[: layout.prefix]]  # images of one pixel
        parts.append(np.stack(z[layout.prefix :]).reshape(layout.height, layout.width, -1))
        convolved = [convolve(part, p['conv.weight'], p['conv.bias']) for part in parts]
        flat = [pixel for part in convolved for row in part for pixel in row]
        return np.stack([scale * linear(quick_gelu(c), p['up.weight'], p['up.bias']) for c in flat])

    loops.check_equal(adapter, layout, update)


def test_gradients_are_the_derivatives() -> None:
    loops.check_gradients(loops.random(make()))


def test_dropout_in_training_only() -> None:
    loops.check_dropout(loops.random(make(dropout=0.5)))


def test_two_per_block() -> None:
    own = backbone('dinov2', 'Convpass')
    assert loops.places(own) == {i: ['parallel_attention', 'parallel_mlp'] for i in '01'}


@pytest.mark.parametrize('trunk', [name for name in TRUNKS if carries(name, 'Convpass')])
def test_reads_what_the_branches_read(trunk: str) -> None:
    """Each of the trunk's norms gives the branch and the bypass the same tokens."""
    own = backbone(trunk, 'Convpass')
    shake(own)
    blocks = own.trunk.blocks()
    given = {norm: [] for block in blocks for norm in block.norms}
    for norm, outputs in given.items():
        norm.register_forward_hook(lambda m, i, output, o=outputs: o.append(output.flatten(1, -2)))
    with torch.no_grad():
        own(padded(trunk, images(trunk)))
    for index, block in enumerate(blocks):
        for norm, position in zip(block.norms, own.adapters.at[str(index)], strict=True):
            assert own.adapters.at[str(index)][position].norm.module is norm
            branch, bypass = given[norm]
            assert torch.equal(branch, bypass)


def test_norms_stay_the_trunks() -> None:
    own = backbone('dinov2', 'Convpass')
    assert not [name for name, _ in own.adapters.named_parameters() if 'norm' in name]
    assert own.trunk.blocks()[0].norms[0] not in set(own.adapters.modules())
    twin = copy.deepcopy(own)
    norm = twin.adapters.at['0']['parallel_attention'].norm.module
    assert norm is twin.trunk.blocks()[0].norms[0]


def test_start() -> None:
    adapter = make()
    assert not adapter.up.weight.any() and not adapter.up.bias.any()
    assert make(zero_init=False).up.weight.any()
    assert not adapter.down.bias.any() and not adapter.conv.bias.any()
    assert torch.equal(adapter.conv.weight[:, :, 1, 1], torch.eye(4))
    assert adapter.conv.weight.sum() == 4


def test_settings() -> None:
    assert Convpass().settings() == {
        'type': 'Convpass',
        'bottleneck': 8,
        'scale': 1.0,
        'zero_init': True,
    }
    assert Convpass().dropout == 0.1


@pytest.mark.parametrize(
    ('option', 'value'), [('bottleneck', 0), ('dropout', 1), ('scale', 0), ('scale', None)]
)
def test_invalid_settings(option: str, value: object) -> None:
    with pytest.raises(InvalidSettingError, match=f'Convpass {option} .*given: {value!r}'):
        Convpass(**{option: value})


def test_a_bottleneck_wider_than_the_trunk() -> None:
    with pytest.raises(InvalidSettingError, match=r'Convpass bottleneck 33 .*use at most 32'):
        backbone('dinov2', {'type': 'Convpass', 'bottleneck': 33})
