"""``optim_wrapper.optimizer.fused=True``: the same training, and one that resumes to the bit."""

import io
from typing import Any

import pytest
import torch
from mmengine.optim import build_optim_wrapper

from mmsigma.models.adapted_backbone import AdaptedBackbone
from tests.tiny import backbone, images, loss


def start(wrapper: str, **options: Any) -> tuple[AdaptedBackbone, Any]:
    own = backbone('registers', 'SIGMA').train()
    config = dict(
        type=wrapper,
        constructor='mmsigma.LayerDecayOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.05, **options),
        clip_grad=dict(max_norm=1.0),
    )
    return own, build_optim_wrapper(own, config)


def train(own: AdaptedBackbone, optim: Any, steps: int) -> None:
    for _ in range(steps):
        with optim.optim_context(own):
            maps = own(images('registers'))
        optim.update_params(loss(tuple(m.float() for m in maps)))


@pytest.mark.parametrize('wrapper', ['OptimWrapper', 'mmsigma.BFloat16OptimWrapper'])
def test_it_trains_and_resumes_exactly(wrapper: str) -> None:
    whole, optim = start(wrapper, fused=True)
    train(whole, optim, 2)
    file = io.BytesIO()
    torch.save((whole.state_dict(), optim.state_dict()), file)
    file.seek(0)
    train(whole, optim, 2)
    own, resumed = start(wrapper, fused=True)
    state, settings = torch.load(file, weights_only=False)
    own.load_state_dict(state)
    resumed.load_state_dict(settings)
    train(own, resumed, 2)
    for one, two in zip(whole.adapters.parameters(), own.adapters.parameters(), strict=True):
        assert torch.equal(one, two)


def test_its_steps_are_the_plain_ones_within_rounding() -> None:
    plain, optim = start('OptimWrapper')
    own, fused = start('OptimWrapper', fused=True)
    train(plain, optim, 3)
    train(own, fused, 3)
    first, _ = start('OptimWrapper')
    trained = zip(plain.parameters(), own.parameters(), first.parameters(), strict=True)
    moved = [(one, two) for one, two, before in trained if not torch.equal(one, before)]
    assert len(moved) == len(list(own.adapters.parameters()))
    for one, two in moved:
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-4)


def test_a_resumed_run_keeps_what_was_saved() -> None:
    """Upstream's rule: a checkpoint's groups, with all their settings, replace the config's."""
    own, optim = start('OptimWrapper')
    train(own, optim, 1)
    _, fused = start('OptimWrapper', fused=True)
    fused.load_state_dict(optim.state_dict())
    assert not any(group['fused'] for group in fused.optimizer.param_groups)
