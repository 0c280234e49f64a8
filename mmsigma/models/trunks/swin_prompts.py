"""Swin's window attention with prompts among the tokens of every window (VPT, arXiv 2203.12119).

Upstream's attention takes windows of image tokens alone, so this is its formula written again, on
upstream's own layers; a trunk without prompts never comes here. The paper says that prompts "are
attended within the local windows, but are ignored during patch merging stages". The rest is how
VPT's release is remembered, not verified; what it leaves open is this project's reading:

- The prompts join the queries, keys and values of each window, with a zero for the relative
  position bias of a pair that has a prompt in it. Swin V2 (not in the release) passes biases
  through ``16 * sigmoid``, so the zero stands before that: an 8 amid values from 0 to 16.
- The mask of shifted windows hides no prompt and nothing from a prompt.
- Every window gives its own outputs for the prompts; their mean goes on. Windows are those of one
  image, the ones that upstream fills up with zeros included.
- Where patches merge, a prompt merges with copies of itself: see :func:`merged`.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmsigma.models.trunks.block import DIVIDED, PROMPTS
from mmsigma.models.trunks.tokens import TokenState

# Queries, scaled, keys and values (B, n, heads, N, c), and biases (heads, N, N).
Heads = tuple[Tensor, Tensor, Tensor, Tensor]
Form = Callable[[Any, Tensor, int], Heads]
Grid = tuple[int, int]

# What Swin V2 provides: it norms behind its branches, and reads the weight of its qkv layer.
PROMPTED_V2 = frozenset({DIVIDED, PROMPTS})


def merged(
    merge: Callable[[Tensor, Grid], tuple[Tensor, Grid]], patch: Grid, x: Tensor, state: TokenState
) -> tuple[Tensor, TokenState]:
    """Tokens ``(B, P + hw, C)`` behind patch merging, and what they stand for.

    Args:
        merge: ``(tokens (B, hw, C), (h, w)) -> tokens, grid``, upstream's.
        patch: Rows and columns that become one.
        x: The tokens.
        state: What they stand for before.
    """
    layout = state.layout
    prompts, tokens = layout.split(x)
    tokens, grid = merge(tokens, (layout.height, layout.width))
    if layout.prefix:
        copies = prompts.flatten(0, 1)[:, None].expand(-1, patch[0] * patch[1], -1)
        alone = merge(copies.contiguous(), patch)[0].reshape(len(x), layout.prefix, -1)
        tokens = torch.cat((alone, tokens), dim=1)
    return tokens, replace(state, layout=replace(layout, height=grid[0], width=grid[1]))


def attend(
    attention: Any, form: Form, grid: Tensor, prompts: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Attention in each window, between its tokens and all prompts.

    Args:
        attention: Upstream's module for the attention of one window, timm's or mmpretrain's.
        form: :func:`dot_product` or :func:`cosine`, as the module has it.
        grid: ``(B, H, W, C)``, whole windows, shifted.
        prompts: ``(B, p, C)``.
        mask: ``(n, area, area)``, what upstream adds to the scores of each of the n windows of an
            image where windows are shifted.

    Returns:
        The outputs ``(B, H, W, C)`` and ``(B, p, C)``.
    """
    rows, columns = attention.window_size
    windows = grid.unflatten(2, (-1, columns)).unflatten(1, (-1, rows)).transpose(2, 3)
    down, across = windows.shape[1:3]
    windows = windows.flatten(3, 4).flatten(1, 2)  # (B, n, area, C)
    many = prompts.unsqueeze(1).expand(-1, down * across, -1, -1)
    count, area = prompts.shape[1], rows * columns

    q, k, v, biases = form(attention, torch.cat((many, windows), dim=2), count)
    # One axis of heads, as fused attention wants it, where biases need not be repeated.
    axes = (0, 1) if mask is None else (1, 2)
    if mask is not None:
        biases = biases + F.pad(mask, (count, 0, count, 0)).to(biases.dtype).unsqueeze(1)
        biases = biases.flatten(0, 1)
    shape = v.shape
    q, k, v = (x.flatten(*axes) for x in (q, k, v))
    out = F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=biases.to(q.dtype).unsqueeze(0),
        dropout_p=attention.attn_drop.p if attention.training else 0.0,
        scale=1.0,
    )
    out = attention.proj(out.view(shape).transpose(2, 3).flatten(3))
    many, windows = attention.proj_drop(out).split((count, area), dim=2)

    windows = windows.unflatten(1, (down, across)).unflatten(3, (rows, columns))
    return windows.transpose(2, 3).flatten(3, 4).flatten(1, 2), many.mean(1)


def dot_product(attention: Any, x: Tensor, count: int) -> Heads:
    """What Swin's attention is computed from.

    Args:
        attention: Upstream's module.
        x: ``(B, n, N, C)``, the tokens of n windows, prompts first.
        count: p, the number of prompts among the N tokens.
    """
    q, k, v = _heads(attention, attention.qkv(x))
    table = attention.relative_position_bias_table
    return q * attention.scale, k, v, _bias(attention, table, count)


def cosine(attention: Any, x: Tensor, count: int) -> Heads:
    """What Swin V2's attention is computed from; see :func:`dot_product`."""
    bias = None
    if attention.q_bias is not None:
        bias = torch.cat((attention.q_bias, torch.zeros_like(attention.q_bias), attention.v_bias))
    q, k, v = _heads(attention, F.linear(x, attention.qkv.weight, bias))
    # Padding has keys of length zero, and PyTorch's own 1e-12 is zero in float16.
    epsilon = max(1e-12, torch.finfo(q.dtype).tiny)
    q, k = F.normalize(q, dim=-1, eps=epsilon), F.normalize(k, dim=-1, eps=epsilon)
    scale = attention.logit_scale.clamp(max=math.log(100)).exp()
    table = attention.cpb_mlp(attention.relative_coords_table).flatten(0, -2)
    return q * scale, k, v, 16 * _bias(attention, table, count).sigmoid()


def _heads(attention: Any, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values ``(B, n, heads, N, c)``."""
    q, k, v = qkv.unflatten(-1, (3, attention.num_heads, -1)).permute(3, 0, 1, 4, 2, 5)
    return q, k, v


def _bias(attention: Any, table: Tensor, count: int) -> Tensor:
    """Relative position biases ``(heads, N, N)`` from a table, zero for prompts."""
    bias = table[attention.relative_position_index].permute(2, 0, 1)
    return F.pad(bias, (count, 0, count, 0))
