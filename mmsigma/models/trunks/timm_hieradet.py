"""SAM 2's image encoder (Ravi et al., arXiv 2408.00714), timm's ``HieraDet``."""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import torch.nn.functional as F
from timm.models.hieradet_sam2 import (
    HieraDet,
    MultiScaleBlock,
    window_partition,
    window_unpartition,
)
from torch import Tensor

from mmsigma.models.trunks import timm_models
from mmsigma.models.trunks.block import PRE_NORM, USUAL, Block
from mmsigma.models.trunks.tokens import TokenLayout, TokenState
from mmsigma.registry import TRUNKS


@TRUNKS.register_module()
class TimmHieraDet(timm_models.TimmTrunk):
    """A ``timm.models.HieraDet``: four stages of windowed attention, pooled in between.

    The first block of a later stage pools its queries and its shortcut, and widens both. There is
    no final norm: maps are what the blocks return.

    Args:
        model_name: E.g. ``sam2_hiera_tiny``.
        weights, mode, dtype, model_args: See :class:`TimmTrunk`.
    """

    # The head that is cut has the classifier's norm; upstream's maps never pass it.
    classes = (HieraDet, MultiScaleBlock)
    provides = USUAL - {PRE_NORM}

    def patch_of(self, model: Any) -> int:
        """Side of a token at the embedding, in pixels."""
        return model.patch_embed.proj.stride[0]

    @property
    def multiple(self) -> int:
        """Whole windows of the position embedding, and whole tokens in every stage, in pixels."""
        model = self.model
        pools = [stride ** len(model.q_pool_blocks) for stride in model.q_stride]
        return self.patch * math.lcm(model.window_spec[0], *pools)

    def embed(self, images: Tensor) -> tuple[Tensor, TokenState]:
        """Patch and position embedding; see :meth:`Trunk.embed`."""
        grid = self.model._pos_embed(self.model.patch_embed(images.to(self.dtype)))  # (B, h, w, C)
        layout = TokenLayout(grid.shape[1], grid.shape[2])
        # In memory the convolution's map has its channels first; the blocks' sums would keep that.
        return grid.flatten(1, 2).contiguous(), TokenState(layout)

    def blocks(self) -> list[Block]:
        """The blocks of all stages; see :meth:`Trunk.blocks`."""
        found, stride = [], self.patch
        for index, block in enumerate(self.model.blocks):
            stage = sum(end < index for end in self.model.stage_ends)
            if block.q_stride is not None:
                stride *= block.q_stride[0]
            steps = partial(_attention, block), timm_models.SCALED_BLOCK.mlp_step(block)
            same = block.dim == block.dim_out and block.q_stride is None
            norms = (block.norm1, block.norm2) if same else None
            found.append(Block(block, block.dim_out, *steps, stage, stride, norms))
        return found


def _attention(block: Any, x: Tensor, state: TokenState) -> tuple[Tensor, Tensor, TokenState]:
    size = (state.layout.height, state.layout.width)
    base, grid = x.unflatten(1, size), block.norm1(x).unflatten(1, size)
    if block.dim != block.dim_out:
        base = block.proj(grid)
        if block.pool is not None:
            base = block.pool(base.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    layout = TokenLayout(base.shape[1], base.shape[2])

    window = block.window_size
    if block.is_windowed:
        grid = window_partition(_fill(grid, window), window)
    branch = block.attn(grid)
    if block.is_windowed:
        if block.q_stride is not None:  # the queries of each window have been pooled
            window = (window[0] // block.q_stride[0], window[1] // block.q_stride[1])
        height = layout.height + -layout.height % window[0]
        width = layout.width + -layout.width % window[1]
        branch = window_unpartition(branch, window, (height, width))
        branch = branch[:, : layout.height, : layout.width]
    branch = block.drop_path1(block.ls1(branch))
    return base.flatten(1, 2), branch.flatten(1, 2), replace(state, layout=layout)


def _fill(grid: Tensor, window: tuple[int, int]) -> Tensor:
    """``(B, h, w, C)`` with zeros at the right and bottom, to whole windows."""
    height, width = grid.shape[1:3]
    return F.pad(grid, (0, 0, 0, -width % window[1], 0, -height % window[0]))
