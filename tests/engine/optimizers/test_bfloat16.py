"""The bfloat16 wrapper: autocast forward, float32 weights, float32's update within its rounding."""

import copy

import torch
from mmengine.registry import OPTIM_WRAPPERS as ROOT
from torch import nn

import mmsigma.registry  # noqa: F401  (the scope)


def wrapper(model):
    return ROOT.build(
        dict(
            type='mmsigma.BFloat16OptimWrapper',
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            clip_grad=dict(max_norm=1.0),
        )
    )


def test_steps_like_float32_within_its_rounding():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4))
    exact = copy.deepcopy(model)
    x = torch.randn(64, 16)
    low = wrapper(model)
    with low.optim_context(model):
        out = model(x)
    assert out.dtype == torch.bfloat16
    low.update_params(out.float().square().mean())
    optimiser = torch.optim.SGD(exact.parameters(), lr=0.1)
    exact(x).square().mean().backward()
    nn.utils.clip_grad_norm_(exact.parameters(), 1.0)
    optimiser.step()
    for (name, mine), theirs in zip(model.named_parameters(), exact.parameters(), strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, theirs, rtol=2e-2, atol=2e-3, msg=name)
        assert not torch.equal(mine, theirs)
