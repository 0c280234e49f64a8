"""VPT in Swin's windows: whole trunks by hand, one window and one number at a time."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmsigma.errors import InvalidSettingError
from mmsigma.models.trunks import mmpretrain_swin, timm_swin
from mmsigma.models.trunks.swin_prompts import cosine, dot_product
from mmsigma.models.trunks.tokens import TokenLayout
from tests.models.tuners.loops import gelu, layer_norm, linear, softmax, values
from tests.sample import sampled
from tests.tiny import TRUNKS, backbone, images, loss, shake

SWINS = [name for name in TRUNKS if 'Swin' in TRUNKS[name].config['type']]
PAIRS = ['swin', 'swinv2', 'mmpretrain-swin', 'mmpretrain-swinv2', 'mmpretrain-swinv2-extra']
COUNT = 3
Vectors = dict[Any, np.ndarray]


def prompted(trunk: str, deep: bool, **options: Any):
    own = backbone(trunk, {'type': 'VPT', 'prompts': COUNT, 'deep': deep}, **options)
    shake(own)
    return own


# --- Upstream's layers as formulas. ---


def normed(norm: Any, x: np.ndarray) -> np.ndarray:
    return layer_norm(x, values(norm)['weight'], values(norm)['bias'], norm.eps)


def layer(module: Any, x: np.ndarray) -> np.ndarray:
    given = values(module)
    return linear(x, given['weight'], given.get('bias'))


def position_bias(attention: Any, dy: int, dx: int) -> np.ndarray:
    """The bias of each head for a query that is ``dy`` rows and ``dx`` columns behind its key."""
    rows, columns = attention.window_size
    if not hasattr(attention, 'cpb_mlp'):
        table = values(attention)['relative_position_bias_table']
        return table[(dy + rows - 1) * (2 * columns - 1) + dx + columns - 1]
    place = []
    for distance, side in ((dy, rows), (dx, columns)):
        scaled = 8 * distance / max(side - 1, 1)
        place.append(math.copysign(math.log2(abs(scaled) + 1) / 3, scaled))
    hidden = np.maximum(layer(attention.cpb_mlp[0], place), 0)
    return 16 / (1 + np.exp(-layer(attention.cpb_mlp[2], hidden)))


def window(attention: Any, tokens: list[np.ndarray], places: list) -> list[np.ndarray]:
    """Attention among tokens; a place is ``(row, column, region)``, or None for a prompt."""
    cosines, heads = hasattr(attention, 'cpb_mlp'), attention.num_heads
    weight, given = values(attention.qkv)['weight'], values(attention)
    bias = given.get('qkv.bias')
    if cosines:
        bias = np.concatenate([given['q_bias'], 0 * given['q_bias'], given['v_bias']])
    # (token, q k v, head, channel)
    split = [linear(x, weight, bias).reshape(3, heads, -1) for x in tokens]
    outs = [np.zeros((heads, split[0].shape[-1])) for _ in tokens]
    for i, here in enumerate(places):
        biases = []
        for there in places:
            if here is None or there is None:
                biases.append(np.full(heads, 8.0 if cosines else 0.0))
            else:
                hidden = 0 if here[2] == there[2] else -100
                biases.append(
                    position_bias(attention, here[0] - there[0], here[1] - there[1]) + hidden
                )
        for head in range(heads):
            scores = []
            for j in range(len(tokens)):
                q, k = split[i][0, head], split[j][1, head]
                if cosines:
                    lengths = [max(math.sqrt(math.fsum(v**2)), 1e-12) for v in (q, k)]
                    scale = min(math.exp(given['logit_scale'][head].item()), 100)
                    score = math.fsum(q * k) / lengths[0] / lengths[1] * scale
                else:
                    score = math.fsum(q * k) / math.sqrt(len(q))
                scores.append(score + biases[j][head])
            for share, other in zip(softmax(np.array(scores)), split, strict=True):
                outs[i][head] += share * other[2, head]
    return [layer(attention.proj, out.reshape(-1)) for out in outs]


def region(row: int, total: int, side: int, shift: int) -> int:
    """Which part of a shifted map a row or column is from."""
    if shift == 0 or row < total - side:
        return 0
    return 1 if row < total - shift else 2


def attend(
    attention: Any, shift: tuple, late: bool, grid: Vectors, prompts: list
) -> tuple[Vectors, list]:
    """All windows of one image; ``late``: padding is put behind the map after it is shifted."""
    side = attention.window_size
    size = [max(place[i] for place in grid) + 1 for i in (0, 1)]
    total = [-(-n // w) * w for n, w in zip(size, side, strict=True)]
    cycle = size if late else total
    shifted = {tuple((place[i] - shift[i]) % cycle[i] for i in (0, 1)): place for place in grid}
    zero = 0 * prompts[0]
    out: Vectors = {}
    sums, count = [zero] * len(prompts), 0
    for top in range(0, total[0], side[0]):
        for left in range(0, total[1], side[1]):
            cells = [(y, x) for y in range(side[0]) for x in range(side[1])]
            tokens, places = list(prompts), [None] * len(prompts)
            for y, x in cells:
                source = shifted.get((top + y, left + x))
                tokens.append(zero if source is None else grid[source])
                rows = region(top + y, total[0], side[0], shift[0])
                places.append((y, x, (rows, region(left + x, total[1], side[1], shift[1]))))
            results = window(attention, tokens, places)
            sums, count = [s + r for s, r in zip(sums, results, strict=False)], count + 1
            for (y, x), result in zip(cells, results[len(prompts) :], strict=True):
                source = shifted.get((top + y, left + x))
                if source is not None:
                    out[source] = result
    return out, [s / count for s in sums]


def merged(merge: Any, corners: list[list[np.ndarray]], v2: bool) -> np.ndarray:
    """Four tokens, by row and column, as one."""
    if hasattr(merge, 'sampler'):  # channel by channel
        joined = [
            corners[y][x][c] for c in range(len(corners[0][0])) for y in (0, 1) for x in (0, 1)
        ]
    else:
        joined = [*corners[0][0], *corners[1][0], *corners[0][1], *corners[1][1]]
    if v2:
        return normed(merge.norm, layer(merge.reduction, joined))
    return layer(merge.reduction, normed(merge.norm, np.array(joined)))


def merge_all(merge: Any, grid: Vectors, prompts: list, v2: bool) -> tuple[Vectors, list]:
    zero = 0 * next(iter(grid.values()))
    heads = {(y // 2, x // 2) for y, x in grid}
    found = {
        (y, x): merged(
            merge,
            [[grid.get((2 * y + i, 2 * x + j), zero) for j in (0, 1)] for i in (0, 1)],
            v2,
        )
        for y, x in heads
    }
    return found, [merged(merge, [[p, p], [p, p]], v2) for p in prompts]


def each(function: Callable, grid: Vectors, prompts: list) -> tuple[Vectors, list]:
    return {place: function(x) for place, x in grid.items()}, [function(p) for p in prompts]


def add(a: tuple[Vectors, list], b: tuple[Vectors, list]) -> tuple[Vectors, list]:
    grid = {place: x + b[0][place] for place, x in a[0].items()}
    return grid, [p + q for p, q in zip(a[1], b[1], strict=True)]


def block_by_hand(module: Any, v2: bool, grid: Vectors, prompts: list) -> tuple[Vectors, list]:
    timm = not hasattr(module, 'ffn')
    attention = module.attn if timm else module.attn.w_msa
    shift = module.shift_size if timm else (module.attn.shift_size,) * 2
    if timm:
        first, second = module.mlp.fc1, module.mlp.fc2
    else:
        first, second = module.ffn.layers[0][0], module.ffn.layers[1]

    def mlp(x: np.ndarray) -> np.ndarray:
        return layer(second, gelu(layer(first, x)))

    def norm1(x: np.ndarray) -> np.ndarray:
        return normed(module.norm1, x)

    def norm2(x: np.ndarray) -> np.ndarray:
        return normed(module.norm2, x)

    tokens = (grid, prompts)
    if v2:
        branch = each(norm1, *attend(attention, shift, timm, *tokens))
        tokens = add(tokens, branch)
        return add(tokens, each(lambda x: norm2(mlp(x)), *tokens))
    branch = attend(attention, shift, timm, *each(norm1, *tokens))
    tokens = add(tokens, branch)
    return add(tokens, each(lambda x: mlp(norm2(x)), *tokens))


@pytest.mark.parametrize('deep', sampled([True, False], bool))
@pytest.mark.parametrize('trunk', sampled(PAIRS, {'swin', 'mmpretrain-swinv2'}.__contains__))
def test_by_hand(trunk: str, deep: bool) -> None:
    """Two stages, each with a block that shifts; windows are padded in both, and merging pads."""
    own = prompted(trunk, deep, out_indices=range(4), trunk_options={'final_norm': False}).double()
    v2, x = 'v2' in trunk, images(trunk, 28, 20, batch=2).double()
    accuracy = 1e-7 if v2 else 1e-9  # upstream makes V2's log-spaced distances in float32
    learned = {
        int(i): list(values(at['prompts'])['tokens'][0]) for i, at in own.adapters.at.items()
    }
    assert list(learned) == ([0, 1, 2, 3] if deep else [0])
    blocks, model = own.trunk.blocks(), own.trunk.model
    shifts = [
        np.max(b.module.shift_size if hasattr(b.module, 'shift_size') else b.module.attn.shift_size)
        for b in blocks
    ]
    assert [bool(s) for s in shifts] == [False, True, False, True]
    if trunk.startswith('mmpretrain'):
        merge = model.stages[1 if v2 else 0].downsample
    else:
        merge = model.layers[1].downsample
    with torch.no_grad():
        start, ours = own.trunk.embed(x)[0].numpy(), own(x)
    for image in (0, 1):
        grid = {(i // 5, i % 5): token for i, token in enumerate(start[image])}
        prompts: list = []
        for i, block in enumerate(blocks):
            if i == 2 and 'extra' in trunk:
                grid, prompts = each(lambda x: normed(blocks[1].module.norm3, x), grid, prompts)
            if i == 2:
                grid, prompts = merge_all(merge, grid, prompts, v2)
            prompts = learned.get(i, prompts)
            grid, prompts = block_by_hand(block.module, v2, grid, prompts)
            shown = grid
            if i % 2 and 'extra' in trunk:
                shown, _ = each(lambda x, b=block: normed(b.module.norm3, x), grid, prompts)
            for (row, column), token in shown.items():
                expected = torch.from_numpy(token)
                found = ours[i][image, :, row, column]
                assert torch.allclose(found, expected, rtol=0, atol=accuracy), (i, row, column)


# --- The formula written again, without prompts, is upstream's. ---


def check_attention(prompted_windows: Callable, whole: Any, upstream: Callable, v2: bool) -> None:
    form, width = (cosine if v2 else dot_product), whole.norm1.weight.numel()
    for size in ((8, 8), (7, 5), (2, 9), (4, 4)):
        x = torch.randn(2, size[0] * size[1], width).double()
        with torch.no_grad():
            ours = prompted_windows(form, x, TokenLayout(*size))
            assert torch.allclose(ours, upstream(x, size), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize('trunk', ['swin', 'swinv2'])
@pytest.mark.parametrize('args', [{}, {'window_size': (2, 3)}, {'img_size': 16}], ids=str)
def test_windows_of_timm(trunk: str, args: dict) -> None:
    args = {**TRUNKS[trunk].config['model_args'], **args}
    own = backbone(trunk, 'Frozen', trunk_options={'model_args': args, 'weights': 'random'})
    for block in own.double().trunk.blocks():
        module = block.module

        def upstream(x: Tensor, size: tuple, module: Any = module) -> Tensor:
            return module._attn(x.unflatten(1, size)).flatten(1, 2)

        def ours(form: Any, x: Tensor, layout: TokenLayout, module: Any = module) -> Tensor:
            return timm_swin._prompted_windows(module, form, x, layout)

        check_attention(ours, module, upstream, 'v2' in trunk)


@pytest.mark.parametrize('trunk', ['mmpretrain-swin', 'mmpretrain-swinv2'])
@pytest.mark.parametrize('pad_small_map', [True, False])
def test_windows_of_mmpretrain(trunk: str, pad_small_map: bool) -> None:
    args = {**TRUNKS[trunk].config['model_args'], 'pad_small_map': pad_small_map, 'window_size': 2}
    own = backbone(trunk, 'Frozen', trunk_options={'model_args': args, 'weights': 'random'})
    for block in own.double().trunk.blocks():
        attention: Any = block.module.attn

        def ours(form: Any, x: Tensor, layout: TokenLayout, attention: Any = attention) -> Tensor:
            return mmpretrain_swin._prompted_windows(attention, form, x, layout)

        check_attention(ours, block.module, attention, 'v2' in trunk)


# --- Training, precision, refusals. ---


@pytest.mark.parametrize('deep', [True, False])
@pytest.mark.parametrize('trunk', SWINS)
def test_every_prompt_is_reached(trunk: str, deep: bool) -> None:
    own = prompted(trunk, deep)
    loss(own(images(trunk, 28, 20))).backward()
    for at in own.adapters.at.values():
        assert at['prompts'].tokens.grad.any(-1).all()
    assert all(p.grad is None for p in own.trunk.parameters())


@pytest.mark.parametrize('deep', [True, False])
@pytest.mark.parametrize('trunk', SWINS)
def test_images_do_not_meet(trunk: str, deep: bool) -> None:
    """What the windows of an image make of the prompts goes to this image alone."""
    own, x = prompted(trunk, deep), images(trunk, 28, 20, batch=3)
    with torch.no_grad():
        for i in range(3):
            for alone, together in zip(own(x[i : i + 1]), own(x), strict=True):
                assert torch.allclose(alone[0], together[i], atol=1e-4)


@pytest.mark.parametrize('trunk', ['mmpretrain-swinv2', 'mmpretrain-swin', 'swin'])
def test_float16(trunk: str) -> None:
    """Also where windows are padded, whose keys are zero."""
    own = prompted(trunk, True, trunk_options={'dtype': 'float16'})
    assert all(m.isfinite().all() for m in own(images(trunk, 28, 20)))


def test_patches_that_overlap_where_they_merge() -> None:
    config = TRUNKS['mmpretrain-swin'].config
    stages = {'downsample_cfg': {'kernel_size': 3, 'stride': 2, 'padding': 'same'}}
    options = {'model_args': {**config['model_args'], 'stage_cfgs': stages}, 'weights': 'random'}
    backbone('mmpretrain-swin', 'Frozen', trunk_options=options)
    with pytest.raises(InvalidSettingError, match='merges overlapping patches'):
        backbone('mmpretrain-swin', 'VPT', trunk_options=options)
