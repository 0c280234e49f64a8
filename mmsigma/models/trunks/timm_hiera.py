"""Hiera (Ryali et al., ICML 2023, arXiv 2306.00989) in timm."""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.hiera import Hiera, HieraBlock, Reroll, Unroll
from torch import Tensor

from mmsigma.models.trunks import timm_models
from mmsigma.models.trunks.block import PRE_NORM, USUAL, Block, MLPStep
from mmsigma.models.trunks.tokens import TokenLayout, TokenState
from mmsigma.registry import TRUNKS


@TRUNKS.register_module()
class TimmHiera(timm_models.TimmTrunk):
    """A ``timm.models.Hiera`` for images, run at any size.

    Upstream keeps tokens in the order of mask units, so that pooling and windows are views. Between
    blocks they are in row-major order here, which is what adapters can read; each step puts them
    into upstream's order and back. Upstream runs at the size it was built for; at other sizes a
    learned position embedding is resampled (bicubic, antialiased), as upstream resamples that of
    its ``abswin`` models (Bolya et al., arXiv 2311.05613). There is no final norm.

    Args:
        model_name: E.g. ``hiera_tiny_224``.
        weights, mode, dtype, model_args: See :class:`TimmTrunk`.
    """

    # The head that is cut has the classifier's norm; upstream's maps never pass it.
    classes = (Hiera, HieraBlock)
    provides = USUAL - {PRE_NORM}

    def patch_of(self, model: Any) -> int:
        """Side of a token at the embedding, in pixels."""
        return model.patch_stride[0]

    @property
    def multiple(self) -> int:
        """Whole mask units, and whole tokens in every stage, in pixels."""
        model = self.model
        strides = [stride ** len(self._schedule()) for stride in model.q_stride]
        return self.patch * math.lcm(*model.mask_unit_size, *strides)

    def embed(self, images: Tensor) -> tuple[Tensor, TokenState]:
        """Patch and position embedding; see :meth:`Trunk.embed`."""
        model = self.model
        tokens = model.patch_embed(images.to(self.dtype))  # (B, h w, C)
        stride = model.patch_stride
        size = (images.shape[-2] // stride[0], images.shape[-1] // stride[1])
        tokens = tokens + self._position(*size)
        # The orders of this image size, block by block; it has no parameters.
        orders = Reroll(size, (1, 1), self._schedule(), model.stage_ends, model.q_pool)
        # In memory the convolution's map has its channels first; the blocks' sums would keep that.
        return tokens.contiguous(), TokenState(TokenLayout(*size), orders)

    def blocks(self) -> list[Block]:
        """The blocks of all stages; see :meth:`Trunk.blocks`."""
        model = self.model
        found, stride = [], self.patch
        for index, block in enumerate(model.blocks):
            stage = sum(end < index for end in model.stage_ends)
            if block.attn.q_stride > 1:
                stride *= model.q_stride[0]
            mlp = timm_models.SCALED_BLOCK.mlp_step(block)
            steps = partial(_attention, block, index), partial(_mlp, mlp, index)
            norms = None if block.do_expand else (block.norm1, block.norm2)
            found.append(Block(block, block.dim_out, *steps, stage, stride, norms))
        return found

    def _schedule(self) -> list[tuple[int, ...]]:
        """The strides by which upstream orders tokens into mask units, finest first."""
        return [self.model.q_stride] * (len(self.model.stage_ends) - 1)

    def _position(self, height: int, width: int) -> Tensor:
        """The position embedding ``(1, height * width, C)`` of a grid."""
        model = self.model
        if model.pos_embed_win is None:
            old = model.tokens_spatial_shape
            return resample_abs_pos_embed(model.pos_embed, [height, width], old, 0)
        unit = model.mask_unit_size
        windows = model.pos_embed_win.tile((height // unit[0], width // unit[1]))
        # In float32: antialiasing exists in no other precision on the CPU.
        position = model.pos_embed.float()
        position = F.interpolate(position, (height, width), mode='bicubic', antialias=True)
        return (position.to(windows.dtype) + windows).flatten(2).transpose(1, 2)


def _unroll(x: Tensor, orders: Reroll, index: int) -> Tensor:
    """Row-major tokens ``(B, N, C)`` in the order of mask units that block ``index`` returns."""
    schedule, size = orders.schedule[index]
    return Unroll(tuple(size), (1, 1), schedule)(x)


def _roll(x: Tensor, orders: Reroll, index: int) -> Tensor:
    """Tokens ``(B, N, C)`` that block ``index`` returns, in row-major order."""
    return orders(x, index).flatten(1, 2)


def _attention(
    block: Any, index: int, x: Tensor, state: TokenState
) -> tuple[Tensor, Tensor, TokenState]:
    orders = state.shared
    x = _unroll(x, orders, max(index - 1, 0))  # the first block does not pool
    normed = block.norm1(x)
    if block.do_expand:
        x = _expand(block, x, normed)
    branch = block.drop_path1(block.ls1(block.attn(normed)))
    state = replace(state, layout=TokenLayout(*orders.schedule[index][1]))
    return _roll(x, orders, index), _roll(branch, orders, index), state


def _expand(block: Any, x: Tensor, normed: Tensor) -> Tensor:
    """The shortcut of a block that widens its tokens, and pools them if it has a stride."""
    if block.proj is not None:
        return block.proj(normed).unflatten(1, (block.attn.q_stride, -1)).amax(dim=1)
    pooled = x.unflatten(1, (block.attn.q_stride, -1))
    return torch.cat((pooled.amax(dim=1), pooled.mean(dim=1)), dim=-1)


def _mlp(mlp: MLPStep, index: int, x: Tensor, state: TokenState) -> Tensor:
    # In upstream's order here too: matrix products may round by a row's place in the matrix.
    return _roll(mlp(_unroll(x, state.shared, index), state), state.shared, index)
