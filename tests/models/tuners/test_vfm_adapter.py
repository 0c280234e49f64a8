"""VFM-Adapter against the equations of its file, and that its hypernetwork exists once."""

import numpy as np
import pytest
import torch

from mmsigma.errors import InvalidSettingError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.injection import ModuleReference
from mmsigma.models.tuners.vfm_adapter import Hypernetwork, VFMAdapter, VFMAdapterModule
from tests.models.tuners import loops
from tests.models.tuners.loops import convolve, linear, quick_gelu
from tests.tiny import backbone

BOTTLENECK, RANK = 3, 2


def make(
    scale: float = 1.0, dropout: float = 0.1, zero_init: bool = True
) -> tuple[VFMAdapterModule, Hypernetwork]:
    hyper = loops.random(Hypernetwork(BOTTLENECK, RANK))
    settings = (loops.WIDTH, BOTTLENECK, dropout, zero_init, scale)
    return VFMAdapterModule(loops.norm(), ModuleReference(hyper), *settings), hyper


@pytest.mark.parametrize('scale', [1.0, 0.3])
@pytest.mark.parametrize('layout', loops.PLACES, ids=str)
def test_equals_the_equations(layout: TokenLayout, scale: float) -> None:
    adapter, hyper = make(scale)
    p, h = loops.values(loops.random(adapter)), loops.values(hyper)
    norm = loops.values(adapter.norm.module)

    def update(tokens: np.ndarray) -> np.ndarray:
        z = []
        for token in tokens:
            x = loops.layer_norm(token, norm['weight'], norm['bias'], 1e-3)
            z.append(quick_gelu(linear(x, p['down.weight'], p['down.bias'])))
        grid = z[layout.prefix :]
        mean = sum(grid) / len(grid)
        generated = linear(linear(mean, h['0.weight'], h['0.bias']), h['1.weight'], h['1.bias'])
        kernel = generated.reshape(BOTTLENECK, BOTTLENECK, 3, 3)
        parts = [np.stack([[token]]) for token in z[: layout.prefix]]  # images of one pixel
        parts.append(np.stack(grid).reshape(layout.height, layout.width, -1))
        convolved = [convolve(part, kernel, None) for part in parts]
        flat = [pixel for part in convolved for row in part for pixel in row]
        return np.stack([scale * linear(quick_gelu(c), p['up.weight'], p['up.bias']) for c in flat])

    loops.check_equal(adapter, layout, update)


def test_gradients_are_the_derivatives() -> None:
    adapter, hyper = make()
    loops.check_gradients(loops.random(adapter), hyper)


def test_images_do_not_see_each_other() -> None:
    adapter, layout = loops.random(make()[0]), TokenLayout(3, 4, 1, True)
    tokens = loops.tokens_of(layout, batch=3)
    with torch.no_grad():
        alone = torch.cat([adapter(image[None], layout) for image in tokens])
        torch.testing.assert_close(adapter(tokens, layout), alone)


def test_dropout_in_training_only() -> None:
    loops.check_dropout(loops.random(make(dropout=0.5)[0]))


def test_two_per_block_and_one_hypernetwork() -> None:
    own = backbone('dinov2', 'VFMAdapter')
    assert loops.places(own) == {i: ['parallel_attention', 'parallel_mlp'] for i in '01'}
    names = list(own.adapters.state_dict())
    assert names == [name for name, _ in own.adapters.named_parameters()]
    hyper = own.adapters.shared['hyper']
    assert sum('hyper' in name for name in names) == len(list(hyper.parameters())) == 4
    assert all(a.hyper.module is hyper for at in own.adapters.at.values() for a in at.values())


def test_start() -> None:
    adapter, _ = make()
    assert not adapter.up.weight.any() and not adapter.up.bias.any()
    assert make(zero_init=False)[0].up.weight.any()


def test_share_of_sam() -> None:
    """The published share, about 3 % of SAM-B."""
    with torch.device('meta'):
        trunk = {'type': 'TimmSAM', 'model_name': 'samvit_base_patch16', 'weights': 'random'}
        own = AdaptedBackbone(trunk, {'type': 'VFMAdapter'})
    adapters, total = (sum(p.numel() for p in m.parameters()) for m in (own.adapters, own.trunk))
    assert 100 * adapters / total == pytest.approx(3, abs=0.1)


def test_settings() -> None:
    assert VFMAdapter().settings() == {
        'type': 'VFMAdapter',
        'bottleneck': 64,
        'rank': 8,
        'scale': 1.0,
        'zero_init': True,
    }


@pytest.mark.parametrize(
    ('option', 'value'), [('bottleneck', 0), ('rank', 0), ('dropout', 1), ('scale', 0)]
)
def test_invalid_settings(option: str, value: object) -> None:
    with pytest.raises(InvalidSettingError, match=f'VFMAdapter {option} .*given: {value!r}'):
        VFMAdapter(**{option: value})


def test_too_wide() -> None:
    with pytest.raises(InvalidSettingError, match=r'VFMAdapter rank 9 .* its bottleneck, 8'):
        VFMAdapter(bottleneck=8, rank=9)
    with pytest.raises(InvalidSettingError, match=r'VFMAdapter bottleneck 64 .*use at most 32'):
        backbone('dinov2', {'type': 'VFMAdapter'})
