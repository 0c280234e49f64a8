"""Windowed attention of plain trunks, against loops over single tokens in float64."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmsigma.errors import CheckpointMismatchError, InvalidSettingError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.trunks import windows
from mmsigma.models.tuners.injection import POSITIONS
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
    sigma,
    trunk_config,
    upstream_maps,
)

VITS = ['dinov2', 'registers', 'siglip', 'aimv2', 'post-norm']
# In tokens, plus pixels; windows are 3 x 3 tokens.
SIZES = {
    'whole': ((6, 0), (3, 0)),
    'odd': ((4, 1), (6, -1)),
    'strip': ((2, 0), (7, 0)),
    'corner': ((4, 0), (7, 0)),
}


def windowed(trunk: str, tuner: Any = 'Frozen', blocks: Any = 0, side: int = 3, **options: Any):
    trunk_options = {'window': side, 'global_blocks': blocks}
    return backbone(trunk, tuner, trunk_options=trunk_options, **options)


def sized(trunk: str, size: str, batch: int = 2) -> Tensor:
    patch = TRUNKS[trunk].patch
    height, width = (tokens * patch + pixels for tokens, pixels in SIZES[size])
    return images(trunk, height, width, batch)


# --- The formula, token by token ------------------------------------------------------------


def attention_of(attn: Any, query: Tensor, keys: Tensor) -> Tensor:
    """What one token ``(C,)`` gets from tokens ``(n, C)``, by upstream's weights."""
    width = len(query)
    per_head = width // attn.num_heads
    wq, wk, wv = attn.qkv.weight.chunk(3)
    bq, bk, bv = (0, 0, 0) if attn.qkv.bias is None else attn.qkv.bias.chunk(3)
    q, k, v = wq @ query + bq, keys @ wk.T + bk, keys @ wv.T + bv
    heads = []
    for head in range(attn.num_heads):
        part = slice(head * per_head, (head + 1) * per_head)
        weights = (k[:, part] @ q[part] / per_head**0.5).softmax(dim=0)
        heads.append(weights @ v[:, part])
    return attn.proj(torch.cat(heads))


def attended(attn: Any, tokens: Tensor, prefix: int, width: int, side: int | None) -> Tensor:
    """One image's tokens ``(P + hw, C)`` after attention in windows, or to all for None."""
    count = len(tokens) - prefix
    homes: dict[tuple[int, int], list[int]] = {}
    for index in range(count):
        row, column = divmod(index, width)
        home = (0, 0) if side is None else (row // side, column // side)
        homes.setdefault(home, []).append(prefix + index)
    out = torch.zeros_like(tokens)
    for members in homes.values():
        keys = tokens[list(range(prefix)) + members]
        for index in members:
            out[index] = attention_of(attn, tokens[index], keys)
        for index in range(prefix):
            out[index] += len(members) / count * attention_of(attn, tokens[index], keys)
    return out


@torch.no_grad()
def by_hand(own: AdaptedBackbone, x: Tensor, sides: list[int | None]) -> list[Tensor]:
    trunk: Any = own.trunk
    tokens, state = trunk.embed(trunk.pad(x))
    found = []
    for index, (block, side) in enumerate(zip(trunk.model.blocks, sides, strict=True)):
        post = not hasattr(block, 'ls1')

        def attend(y: Tensor, block: Any = block, side: int | None = side) -> Tensor:
            layout = state.layout
            return torch.stack(
                [attended(block.attn, image, layout.prefix, layout.width, side) for image in y]
            )

        if post:
            tokens = tokens + block.norm1(attend(tokens))
            tokens = tokens + block.norm2(block.mlp(tokens))
        else:
            tokens = tokens + block.ls1(attend(block.norm1(tokens)))
            tokens = tokens + block.ls2(block.mlp(block.norm2(tokens)))
        rows, columns = (-(-length // trunk.patch) for length in x.shape[-2:])
        found.append(state.layout.to_map(trunk.norm(tokens, index))[..., :rows, :columns])
    return found


def close(first: Any, second: Any, tolerance: float = 1e-9) -> bool:
    return all(
        a.shape == b.shape and (a - b).abs().max() <= tolerance * b.abs().max()
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('trunk', VITS)
def test_windows_are_the_formula(trunk: str, size: str, batch: int) -> None:
    own = windowed(trunk).double()
    x = sized(trunk, size, batch).double()
    with torch.no_grad():
        maps = own(x)
    assert close(maps, by_hand(own, x, [3, 3]))
    assert not close(maps, by_hand(own, x, [None, None]), 1e-3)


@pytest.mark.parametrize(('blocks', 'sides'), [(1, [3, None]), ([0], [None, 3]), ([-1], [3, None])])
def test_global_blocks_attend_to_everything(blocks: Any, sides: list[int | None]) -> None:
    own = windowed('registers', blocks=blocks).double()
    x = sized('registers', 'odd').double()
    with torch.no_grad():
        assert close(own(x), by_hand(own, x, sides))


@pytest.mark.parametrize('side', [1, 2, 5])
def test_other_sides(side: int) -> None:
    own = windowed('dinov2', side=side).double()
    x = sized('dinov2', 'corner').double()
    with torch.no_grad():
        assert close(own(x), by_hand(own, x, [side, side]))


# --- What stays as it is --------------------------------------------------------------------


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('trunk', VITS)
def test_one_window_that_covers_the_grid_is_upstream(trunk: str, size: str, batch: int) -> None:
    x = sized(trunk, size, batch)
    norm = TRUNKS[trunk].norms[0]
    with torch.no_grad():
        expected = upstream_maps(trunk, padded(trunk, x), norm)
        for side in (7, 100):  # the wider of the sizes has seven columns
            maps = windowed(trunk, side=side)(x)
            rows, columns = maps[-1].shape[-2:]
            assert same((maps[-1],), (expected[-1][..., :rows, :columns],))


@pytest.mark.parametrize('trunk', VITS)
def test_windows_of_whole_attention_are_upstream(trunk: str) -> None:
    """All blocks global: the setting names them, and changes nothing."""
    x = sized(trunk, 'odd')
    assert same(windowed(trunk, blocks=2)(x), backbone(trunk, 'Frozen')(x))


@pytest.mark.parametrize('trunk', ['registers', 'siglip', 'post-norm'])
def test_sigma_starts_as_the_windowed_trunk(trunk: str) -> None:
    x = sized(trunk, 'corner')
    with torch.no_grad():
        frozen = windowed(trunk)(x)
        assert same(windowed(trunk, sigma(position=POSITIONS, scale='learned'))(x), frozen)


def test_adapters_see_the_whole_grid() -> None:
    own = windowed('registers', sigma(position=POSITIONS))
    seen = []
    for at in own.adapters.at.values():
        for adapter in at.values():  # type: ignore[operator]
            adapter.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    own(sized('registers', 'corner', batch=3))
    assert len(seen) == 2 * len(POSITIONS)
    for tokens, layout in seen:
        assert (layout.height, layout.width, layout.prefix) == (4, 7, 5)
        assert tokens.shape == (3, 5 + 28, 32)


def test_a_window_sees_no_other() -> None:
    """Without prefix tokens, nothing passes a window's edge but through a global block."""
    x = images('siglip', 6 * 16, 6 * 16, 1)
    other = copy.deepcopy(x)
    other[..., 48:, 48:] = 0
    for blocks, changes in ((0, False), (1, True)):
        own = windowed('siglip', blocks=blocks)
        with torch.no_grad():
            one, two = own(x)[-1], own(other)[-1]
        assert not torch.allclose(one[..., 3:, 3:], two[..., 3:, 3:])
        for part in (one[..., :3, :] - two[..., :3, :], one[..., 3:, :3] - two[..., 3:, :3]):
            assert (part.abs().max() > 1e-3) == changes


# --- Training -------------------------------------------------------------------------------


@pytest.mark.parametrize('trunk', ['registers', 'siglip', 'post-norm'])
@pytest.mark.parametrize('tuner', ['SIGMA-everywhere', 'Full', 'VPT'])
def test_gradients(tuner: str, trunk: str) -> None:
    own = windowed(trunk, tuner)
    shake(own)
    loss(own(sized(trunk, 'corner'))).backward()
    reached = {n for n, p in own.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {n for n, p in own.named_parameters() if p.requires_grad}
    assert reached


def test_gradients_are_those_of_the_formula() -> None:
    own = windowed('registers', sigma(), blocks=1).double()
    shake(own)
    x = sized('registers', 'odd', 1).double()
    up: nn.Parameter = own.adapters.at['0'].after_block.up.weight  # type: ignore[index, union-attr]

    def value() -> Tensor:
        return sum(m.square().sum() for m in own(x))  # type: ignore[return-value]

    (gradient,) = torch.autograd.grad(value(), up)
    step = torch.zeros_like(up)
    step[0, 0] = 1e-6
    with torch.no_grad():
        up.add_(step)
        above = value()
        up.sub_(2 * step)
        below = value()
    assert torch.isclose(gradient[0, 0], (above - below) / 2e-6, rtol=1e-5)


def test_prompts_stand_in_every_window() -> None:
    own = windowed('dinov2', {'type': 'VPT', 'prompts': 3, 'deep': False})
    with torch.no_grad():
        without = windowed('dinov2')(sized('dinov2', 'corner'))
        maps = own(sized('dinov2', 'corner'))
    for ours, theirs in zip(maps, without, strict=True):
        assert ours.shape == theirs.shape
        assert ((ours - theirs).abs().amax(dim=1) > 1e-4).all()


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_half_precision(dtype: str) -> None:
    x = sized('registers', 'corner')
    options = {'window': 3, 'global_blocks': 1}
    half = backbone('registers', 'Frozen', trunk_options={**options, 'dtype': dtype})
    with torch.no_grad():
        for ours, exact in zip(half(x), windowed('registers', blocks=1)(x), strict=True):
            assert (ours - exact).norm() < 0.1 * exact.norm()


# --- Settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('count', 'depth', 'expected'),
    [
        (4, 12, [2, 5, 8, 11]),  # ViTDet's ViT-B, L and H
        (4, 24, [5, 11, 17, 23]),
        (4, 32, [7, 15, 23, 31]),
        (None, 12, [2, 5, 8, 11]),
        (3, 4, [0, 1, 3]),
        (4, 4, [0, 1, 2, 3]),
        (1, 12, [11]),
        (0, 12, []),
        ([], 12, []),
        ([-1, 0], 12, [0, 11]),
    ],
)
def test_which_blocks_are_global(count: Any, depth: int, expected: list[int]) -> None:
    sides, record = windows.plan(14, count, depth)
    assert [i for i, side in enumerate(sides) if side is None] == expected
    assert {side for side in sides if side is not None} <= {14}
    assert record == f'window=14&global_blocks={",".join(map(str, expected)) or "none"}'


def test_off_by_default() -> None:
    assert windows.plan(None, None, 3) == ([None] * 3, '')
    assert backbone().record()['trunk'] == 'timm/vit_small_patch14_dinov2'


def test_the_setting_is_on_record() -> None:
    names = {windowed('dinov2', blocks=blocks).record()['trunk'] for blocks in (1, [1], [-1])}
    assert names == {'timm/vit_small_patch14_dinov2?window=3&global_blocks=1'}
    other = windowed('dinov2', 'SIGMA', blocks=1)
    for options in ({}, {'window': 4, 'global_blocks': 1}, {'window': 3, 'global_blocks': 0}):
        with pytest.raises(CheckpointMismatchError, match='window=3&global_blocks=1'):
            backbone(trunk_options=options).load_state_dict(other.state_dict())
    windowed('dinov2', 'SIGMA', blocks=[1]).load_state_dict(other.state_dict())
    both = {'window': 3, 'global_blocks': 1, 'pos_resample': 'bicubic'}
    assert (
        backbone(trunk_options=both)
        .record()['trunk']
        .endswith('dinov2?pos_resample=bicubic&window=3&global_blocks=1')
    )


@pytest.mark.parametrize(
    ('options', 'parts'),
    [
        ({'window': 0}, ['window', 'given: 0', '>= 1']),
        ({'window': -3}, ['given: -3']),
        ({'window': 2.0}, ['given: 2.0']),
        ({'window': True}, ['given: True']),
        ({'window': '14'}, ["given: '14'"]),
        ({'window': 3}, ['global_blocks=4', '2 blocks', '0 to 2']),
        ({'window': 3, 'global_blocks': 3}, ['global_blocks=3', '2 blocks']),
        ({'window': 3, 'global_blocks': -1}, ['global_blocks=-1', 'list']),
        ({'window': 3, 'global_blocks': True}, ['global_blocks=True']),
        ({'window': 3, 'global_blocks': 1.5}, ['global_blocks=1.5']),
        ({'window': 3, 'global_blocks': [2]}, ['global_blocks [2]', '2 blocks']),
        ({'window': 3, 'global_blocks': [1, 1]}, ['global_blocks [1, 1]', 'once']),
        ({'window': 3, 'global_blocks': 'last'}, ["has 'l'", '2 blocks']),
        ({'global_blocks': 2}, ['global_blocks=2 without window', 'window=14']),
    ],
    ids=str,
)
def test_bad_settings(options: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(InvalidSettingError) as caught:
        build(REGISTRY, trunk_config('dinov2', **options))
    assert all(part in str(caught.value) for part in parts), caught.value
