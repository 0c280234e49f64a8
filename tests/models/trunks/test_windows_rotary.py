"""Windowed attention of timm's EVA family, against upstream's attention under masks."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mmsigma.errors import CheckpointMismatchError, InvalidSettingError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.registry import TRUNKS as REGISTRY
from mmsigma.registry import build
from tests.tiny import (
    TRUNKS,
    backbone,
    images,
    loss,
    padded,
    same,
    shake,
    trunk_config,
    upstream_maps,
)

EVAS = ['dinov3', 'eva02', 'pe', 'eva-post-norm', 'eva-mixed']
GRIDS = [(6, 3), (4, 7), (2, 5)]


def windowed(trunk: str, tuner: str = 'Frozen', side: int = 3, blocks: Any = 0) -> AdaptedBackbone:
    return backbone(trunk, tuner, trunk_options={'window': side, 'global_blocks': blocks})


def masked(attn: Any, tokens: Tensor, width: int, prefix: int, side: int, rope: Any) -> Tensor:
    """Upstream's attention of whole images, where masks keep tokens to their window.

    Prefix tokens look into one window after the other; what they see is weighted by its size.
    """
    count = tokens.shape[1] - prefix
    homes = [(i // width // side, i % width // side) for i in range(count)]
    out = torch.zeros_like(tokens)
    for home in sorted(set(homes)):
        inside = torch.tensor([True] * prefix + [h == home for h in homes])
        # Every row sees something; only those of this window and of the prefix are kept.
        mask = inside.expand(len(inside), -1)
        result = attn(tokens, rope=rope, attn_mask=mask)
        members = inside.clone()
        members[:prefix] = False
        out[:, members] = result[:, members]
        out[:, :prefix] += homes.count(home) / count * result[:, :prefix]
    return out


@torch.no_grad()
@pytest.mark.parametrize('prompts', [0, 2])
@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('grid', GRIDS, ids=str)
@pytest.mark.parametrize('trunk', EVAS)
def test_windows_are_masks(trunk: str, grid: tuple[int, int], batch: int, prompts: int) -> None:
    own = windowed(trunk).double().trunk
    (height, width), patch = grid, own.patch
    _, state = own.embed(images(trunk, height * patch, width * patch, batch).double())
    prefix = state.layout.prefix + prompts
    state = replace(state, layout=replace(state.layout, prefix=prefix))
    torch.manual_seed(0)
    tokens = torch.randn(batch, prefix + height * width, 32, dtype=torch.float64)
    for index, block in enumerate(own.blocks()):
        module: Any = block.module
        rope = state.shared
        if rope is not None:
            rope = rope[index] if own.model.rope_mixed else rope
            still = torch.zeros_like(rope[..., :prompts, :])
            still[..., rope.shape[-1] // 2 :] = 1  # no rotation: sine 0, cosine 1
            rope = torch.cat((still, rope), dim=-2)
        if 'post-norm' in trunk:
            expected = module.norm1(masked(module.attn, tokens, width, prefix, 3, rope))
        else:
            expected = masked(module.attn, module.norm1(tokens), width, prefix, 3, rope)
            expected = expected if module.gamma_1 is None else module.gamma_1 * expected
        base, branch, _ = block.attention(tokens, state)  # type: ignore[misc]
        assert torch.equal(base, tokens)
        assert (branch - expected).abs().max() <= 1e-9 * expected.abs().max()


@torch.no_grad()
@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('trunk', EVAS)
def test_one_window_that_covers_the_grid_is_upstream(trunk: str, batch: int) -> None:
    patch = TRUNKS[trunk].patch
    x = images(trunk, 4 * patch + 1, 7 * patch - 2, batch)
    expected = upstream_maps(trunk, padded(trunk, x), True)[-1]
    for side in (7, 50):
        assert same((windowed(trunk, side=side)(x)[-1],), (expected[..., :5, :7],))
    assert same(windowed(trunk, blocks=2)(x), backbone(trunk, 'Frozen')(x))
    assert not same(windowed(trunk)(x), backbone(trunk, 'Frozen')(x))


@pytest.mark.parametrize('tuner', ['SIGMA-everywhere', 'Full', 'VPT'])
@pytest.mark.parametrize('trunk', EVAS)
def test_gradients(trunk: str, tuner: str) -> None:
    own = windowed(trunk, tuner)
    shake(own)
    patch = own.trunk.patch
    loss(own(images(trunk, 4 * patch, 7 * patch))).backward()
    reached = {n for n, p in own.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {n for n, p in own.named_parameters() if p.requires_grad}


def test_the_setting_is_on_record() -> None:
    other = windowed('dinov3', 'SIGMA', blocks=[-1])
    name = backbone('dinov3').record()['trunk']
    assert other.record()['trunk'] == f'{name}?window=3&global_blocks=1'
    with pytest.raises(CheckpointMismatchError, match='window=3&global_blocks=1'):
        backbone('dinov3').load_state_dict(other.state_dict())


@pytest.mark.parametrize(
    ('options', 'part'),
    [
        ({'window': 0}, 'given: 0'),
        ({'window': 3}, 'global_blocks=4, but this trunk has 2 blocks'),
        ({'global_blocks': 1}, 'global_blocks=1 without window'),
    ],
)
def test_bad_settings(options: dict[str, Any], part: str) -> None:
    with pytest.raises(InvalidSettingError) as caught:
        build(REGISTRY, trunk_config('dinov3', **options))
    assert part in str(caught.value)
