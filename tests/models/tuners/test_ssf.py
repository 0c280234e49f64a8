"""SSF: what it scales, the formula, and that it merges."""

import pytest
import torch

from mmsigma.errors import InvalidSettingError
from mmsigma.models.tuners.ssf import ScaleShift
from tests.tiny import backbone, images, loss, shake


@pytest.mark.parametrize('dim', [1, -1])
def test_formula(dim: int) -> None:
    y = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    width = y.shape[dim]
    module = ScaleShift(width, dim, 0.5).double()
    out = module(y)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in y.shape)).tolist():
        c = index[dim]
        expected = module.gamma[c] * y[tuple(index)] + module.beta[c]
        assert torch.isclose(out[tuple(index)], expected, rtol=0, atol=1e-12)
    x = torch.randn(2, width, 2, width, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))


def test_initial_values() -> None:
    torch.manual_seed(0)
    module = ScaleShift(20_000, -1, 0.02)
    for values, mean in ((module.gamma, 1), (module.beta, 0)):
        assert values.mean().item() == pytest.approx(mean, abs=1e-3)
        assert values.std().item() == pytest.approx(0.02, rel=0.03)


def test_what_it_scales() -> None:
    own = backbone('registers', {'type': 'SSF'})
    block = ['attn_proj', 'attn_qkv', 'mlp_fc1', 'mlp_fc2', 'norm1', 'norm2']
    expected = {f'model_blocks_{i}_{name}' for i in (0, 1) for name in block}
    assert set(own.adapters.shared) == expected | {'model_patch_embed_proj', 'model_norm'}
    assert all(isinstance(m, ScaleShift) for m in own.adapters.shared.values())


def test_without_spread_it_starts_as_the_frozen_model() -> None:
    own, frozen = (
        backbone('registers', {'type': 'SSF', 'std': 0.0}),
        backbone('registers', 'Frozen'),
    )
    for ours, theirs in zip(own(images('registers')), frozen(images('registers')), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_it_folds_into_weights_and_biases() -> None:
    """The same features from a frozen trunk whose weights were scaled by hand, in float64."""
    own = backbone('registers', {'type': 'SSF'}).double()
    shake(own)
    folded = backbone('registers', 'Frozen').double()
    for path, module in folded.trunk.named_modules():
        name = path.replace('.', '_')
        if name in own.adapters.shared:
            gamma, beta = own.adapters.shared[name].gamma, own.adapters.shared[name].beta
            shape = [-1] + [1] * (module.weight.dim() - 1)
            with torch.no_grad():
                module.weight *= gamma.view(shape)
                module.bias.copy_(module.bias * gamma + beta)
    with torch.no_grad():
        for ours, theirs in zip(
            own(images('registers').double()), folded(images('registers').double()), strict=True
        ):
            assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_blocks_behind_the_last_output_are_left_alone() -> None:
    own = backbone('registers', {'type': 'SSF'}, out_indices=[0])
    assert not [name for name in own.adapters.shared if '_blocks_1_' in name]
    loss(own(images('registers'))).backward()
    assert all(p.grad is not None for p in own.parameters() if p.requires_grad)


@pytest.mark.parametrize('trunk', ['beit', 'swinv2', 'mmpretrain-beit'])
def test_layers_that_are_not_called_are_refused(trunk: str) -> None:
    with pytest.raises(InvalidSettingError, match='qkv of this trunk'):
        backbone(trunk, {'type': 'SSF'})


def test_errors() -> None:
    for std in (-0.1, True, 'a'):
        with pytest.raises(InvalidSettingError, match='SSF std'):
            backbone(tuner={'type': 'SSF', 'std': std})
