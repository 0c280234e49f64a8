"""VPT: prompts by hand, block by block, and what they leave alone."""

import math

import pytest
import torch

from mmsigma.errors import InvalidSettingError
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.vpt import Prompts
from tests.tiny import backbone, images, loss, shake

PLAIN = ['dinov2', 'registers', 'siglip', 'post-norm', 'mmpretrain']
ROTARY = ['dinov3', 'eva02', 'eva-mixed']


def prompted(trunk: str, **settings):
    own = backbone(trunk, {'type': 'VPT', 'prompts': 3, **settings})
    shake(own)
    return own


@pytest.mark.parametrize('deep', [True, False])
@pytest.mark.parametrize('trunk', PLAIN)
def test_by_hand(trunk: str, deep: bool) -> None:
    """Upstream's own blocks on token lists that are put together here."""
    own = prompted(trunk, deep=deep).double()
    x = images(trunk).double()
    learned = [own.adapters.at[k]['prompts'].tokens[0] for k in own.adapters.at]
    assert len(learned) == (2 if deep else 1)
    tokens, state = own.trunk.embed(x)
    prefix = state.layout.prefix
    with torch.no_grad():
        for image, first, last in zip(tokens, *own(x), strict=True):
            rows = list(image)
            for i, block in enumerate(own.trunk.blocks()):
                if deep or i == 0:
                    behind = rows[prefix + (3 if i else 0) :]
                    rows = rows[:prefix] + list(learned[i]) + behind
                stacked = torch.stack(rows)[None]
                base, branch, _ = block.attention(stacked, state)
                rows = list((base + branch + block.mlp(base + branch, state))[0])
                grid = torch.stack(rows[prefix + 3 :])[None]
                expected = own.trunk.norm(grid, i)[0].T.reshape(32, 4, 4)
                assert torch.allclose((first, last)[i], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize('trunk', ROTARY)
def test_rotary_embeddings_stay_with_the_image(trunk: str) -> None:
    """Prompts that attention cannot see change nothing: no token of the image turns otherwise."""
    own, frozen = prompted(trunk), backbone(trunk, 'Frozen')
    x = images(trunk)
    with torch.no_grad():
        moved = own(x)
        assert not torch.allclose(moved[0], frozen(x)[0], atol=1e-3)
        for block in own.trunk.model.blocks:
            hide(block.attn, own.trunk.model.num_prefix_tokens)
        for ours, theirs in zip(own(x), frozen(x), strict=True):
            assert torch.allclose(ours, theirs, atol=2e-4)


def hide(attention, prefix: int) -> None:
    """Make the three prompts of any block invisible to attention."""

    def forward(module, args, kwargs):
        count = args[0].shape[1]
        mask = torch.zeros(count, count)
        mask[:, prefix : prefix + 3] = -1e9
        return args, {**kwargs, 'attn_mask': mask}

    attention.register_forward_pre_hook(forward, with_kwargs=True)


def test_initial_values() -> None:
    tokens = Prompts(2000, 32, 0.1, 0, 0.0).tokens
    assert tokens.abs().max() <= 0.1
    assert tokens.std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.03)


@pytest.mark.parametrize(
    ('trunk', 'patch', 'width'), [('dinov2', 14, 32), ('swin', 4, 16), ('mmpretrain-swin', 4, 16)]
)
def test_initial_bound(trunk: str, patch: int, width: int) -> None:
    """That of the patch embedding, in blocks of any width."""
    own = backbone(trunk, {'type': 'VPT', 'prompts': 2000})
    for at in own.adapters.at.values():
        largest = at['prompts'].tokens.abs().max().item()
        assert largest == pytest.approx(math.sqrt(6 / (3 * patch**2 + width)), rel=1e-3)


def test_layout() -> None:
    layout = TokenLayout(2, 3, 1, True)
    tokens = torch.arange(7.0).reshape(1, 7, 1)
    first = Prompts(2, 1, 0.1, 0, 0.0)
    first.tokens.data.fill_(10)
    out, behind = first(tokens, layout)
    assert out.flatten().tolist() == [0, 10, 10, 1, 2, 3, 4, 5, 6]
    assert (behind.prefix, behind.class_token, behind.height, behind.width) == (3, True, 2, 3)
    second = Prompts(2, 1, 0.1, 2, 0.0)
    second.tokens.data.fill_(20)
    out, behind = second(out, behind)
    assert out.flatten().tolist() == [0, 20, 20, 1, 2, 3, 4, 5, 6] and behind.prefix == 3


@pytest.mark.parametrize('deep', [True, False])
def test_every_prompt_is_reached(deep: bool) -> None:
    own = prompted('registers', deep=deep)
    loss(own(images('registers'))).backward()
    assert all(p.grad.any() for p in own.adapters.parameters())


def test_errors() -> None:
    for settings in ({'prompts': 0}, {'prompts': 2.5}, {'dropout': 1.0}):
        with pytest.raises(InvalidSettingError, match=r'VPT (prompts|dropout)'):
            backbone(tuner={'type': 'VPT', **settings})
