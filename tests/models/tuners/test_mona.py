"""Mona against its equations, written out, and what is particular to it here."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsigma.errors import InvalidSettingError
from mmsigma.models.ops.depthwise import FORMS
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.mona import Mona, MonaAdapter
from tests.tiny import backbone, images, same, shake

WIDTH, BOTTLENECK = 6, 4


def make(**options: object) -> MonaAdapter:
    given = {'dropout': 0.1, 'zero_init': False, 'form': 'fast', **options}
    adapter = MonaAdapter(WIDTH, BOTTLENECK, **given)
    return adapter.double().eval()


def depthwise(image: Tensor, conv: nn.Conv2d) -> Tensor:
    """One position at a time: ``(H, W, r) -> (H, W, r)``."""
    half = conv.kernel_size[0] // 2
    padded = F.pad(image, (0, 0, half, half, half, half))
    kernel = conv.weight[:, 0].permute(1, 2, 0)
    side = range(2 * half + 1)
    height, width, _ = image.shape
    taps = (padded[y : y + height, x : x + width] * kernel[y, x] for y in side for x in side)
    return sum(taps) + conv.bias


def update(adapter: MonaAdapter, tokens: Tensor, layout: TokenLayout) -> Tensor:
    """The update ``(N, C)`` of one image's tokens ``(N, C)``."""
    centred = tokens - tokens.mean(dim=1, keepdim=True)
    unit = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
    unit = unit * adapter.norm.weight + adapter.norm.bias
    z = (adapter.gamma * unit + adapter.gamma_x * tokens) @ adapter.down.weight.T
    z = z + adapter.down.bias
    grid = z[layout.prefix :].unflatten(0, (layout.height, layout.width))
    g = grid + sum(depthwise(grid, conv) for conv in adapter.scales) / 3
    p = g + g @ adapter.mix.weight[:, :, 0, 0].T + adapter.mix.bias
    p = torch.cat([z[: layout.prefix], p.flatten(0, 1)])
    return F.gelu(p) @ adapter.up.weight.T + adapter.up.bias


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('prefix', [0, 1, 5])
@pytest.mark.parametrize('grid', [(4, 4), (3, 7), (1, 2)])
def test_equals_the_equations(grid: tuple[int, int], prefix: int, form: str) -> None:
    adapter, layout = make(form=form), TokenLayout(*grid, prefix, prefix > 0)
    shake(adapter)
    assert [conv.kernel_size for conv in adapter.scales] == [(3, 3), (5, 5), (7, 7)]
    tokens = torch.randn(2, prefix + grid[0] * grid[1], WIDTH).double()
    expected = torch.stack([update(adapter, image, layout) for image in tokens])
    torch.testing.assert_close(adapter(tokens, layout), expected)
    with torch.no_grad():  # one kernel for all images then
        torch.testing.assert_close(adapter(tokens, layout), expected)


@pytest.mark.parametrize('batch', [1, 3])
def test_forms_agree_in_every_gradient(batch: int) -> None:
    layout = TokenLayout(5, 9, 1, True)
    fast, plain = make(), make(form='plain')
    shake(fast)
    plain.load_state_dict(fast.state_dict())
    tokens = torch.randn(batch, 46, WIDTH).double()
    weights = torch.randn(batch, 46, WIDTH).double()
    found = []
    for adapter in (fast, plain):
        read = tokens.clone().requires_grad_()
        (adapter(read, layout) * weights).sum().backward()
        found.append([read.grad, *(p.grad for p in adapter.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_starts_as_the_release_does() -> None:
    adapter = make()
    assert adapter.gamma.tolist() == pytest.approx([1e-6] * WIDTH)
    assert (adapter.gamma_x == 1).all()
    assert adapter.up.weight.any()


def test_zero_init_starts_as_the_frozen_model() -> None:
    frozen = backbone('dinov2', 'Frozen')(images())
    zero = {'type': 'Mona', 'bottleneck': 8, 'zero_init': True}
    assert same(backbone('dinov2', zero)(images()), frozen)


def test_two_per_block() -> None:
    places = {str(i): list(at) for i, at in backbone('dinov2', 'Mona').adapters.at.items()}
    assert places == {i: ['after_attention_residual', 'after_block'] for i in '01'}


def test_dropout_in_training_only() -> None:
    adapter, layout = make(dropout=0.5), TokenLayout(4, 4)
    tokens = torch.randn(1, 16, WIDTH).double()
    assert torch.equal(adapter(tokens, layout), adapter(tokens, layout))
    adapter.train()
    assert not torch.equal(adapter(tokens, layout), adapter(tokens, layout))


def test_settings_that_do_not_change_the_function_are_not_recorded() -> None:
    assert Mona().settings() == {'type': 'Mona', 'bottleneck': 64, 'zero_init': False}


@pytest.mark.parametrize(
    ('option', 'value'), [('bottleneck', 0), ('bottleneck', 1.5), ('dropout', 1), ('dropout', -0.1)]
)
def test_invalid_settings(option: str, value: float) -> None:
    with pytest.raises(InvalidSettingError, match=f'Mona {option} .*given: {value}'):
        Mona(**{option: value})
