"""timm's BEiT and BEiT v2: plain transformers with a relative position bias in every block."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table
from timm.models.beit import Beit, gen_relative_position_index
from timm.models.beit import Block as UpstreamBlock
from torch import Tensor

from mmsigma.errors import InvalidSettingError
from mmsigma.models.trunks import timm_models
from mmsigma.models.trunks.block import CALLED, USUAL, Block
from mmsigma.models.trunks.tokens import TokenLayout, TokenState
from mmsigma.registry import TRUNKS

Grid = tuple[int, int]
_EXTRA = 3  # entries of a table for class to token, token to class, class to class


@TRUNKS.register_module()
class TimmBEiT(timm_models.NormedTimmTrunk):
    """A ``timm.models.Beit`` (Bao et al., arXiv 2106.08254; Peng et al., arXiv 2208.06366).

    On a grid other than the native one the tables of relative positions are resampled as BEiT's
    release does it, with finer steps near the centre. That has no gradient: to train the tables
    (full fine-tuning) give the size of the training images as ``model_args=dict(img_size=...)``.

    Args:
        model_name: E.g. ``beitv2_base_patch16_224``; most models norm after pooling alone.
        weights, mode, dtype, final_norm, model_args: See :class:`NormedTimmTrunk`.

    Raises:
        InvalidSettingError: The blocks share one table.
    """

    classes = (Beit, UpstreamBlock)
    left_out = timm_models.HEAD

    has_class_token = True
    # The last grid's tables with the ones that they were resampled from.
    _resampled: tuple[Grid, Tensor, Tensor] | None = None

    @classmethod
    def provided(cls, config: Mapping[str, Any]) -> frozenset[str]:
        """Attention with biases reads the weight of its layer; see :meth:`Trunk.provided`."""
        biased = (config.get('model_args') or {}).get('qkv_bias', True)
        return USUAL - ({CALLED} if biased else set())

    def cut(self, model: Any, model_name: str) -> str:
        """Cut the head."""
        if model.rel_pos_bias is not None:
            raise InvalidSettingError(
                f'{model_name!r} with use_shared_rel_pos_bias=True shares one relative position '
                'bias among its blocks, which TimmBEiT does not run. Leave it out.'
            )
        timm_models.cut_head(model)
        model.patch_embed.strict_img_size = False
        self.native: Grid = tuple(model.patch_embed.grid_size)
        return ''

    def embed(self, images: Tensor) -> tuple[Tensor, TokenState]:
        """Patches and class token; relative position biases are shared with the blocks."""
        model = self.model
        grid = (images.shape[-2] // self.patch, images.shape[-1] // self.patch)
        tokens = model.patch_embed(images.to(self.dtype))
        tokens = torch.cat((model.cls_token.expand(len(tokens), -1, -1), tokens), dim=1)
        if model.pos_embed is not None:
            tokens = tokens + resample_abs_pos_embed(
                model.pos_embed, new_size=list(grid), old_size=list(self.native)
            )
        biases = None if grid == self.native else self._biases(grid)
        return model.pos_drop(tokens), TokenState(TokenLayout(*grid, 1, True), biases)

    def _biases(self, grid: Grid) -> list[Tensor | None]:
        """Relative position bias of each block, ``(1, heads, 1 + h * w, 1 + h * w)``, or None."""
        found = [block.attn.relative_position_bias_table for block in self.model.blocks]
        if any(table is None for table in found):
            return [None] * len(found)
        native = torch.stack(found)  # (blocks, entries, heads)
        if native.requires_grad and torch.is_grad_enabled():
            raise InvalidSettingError(
                f'The relative position tables of {self.name} train, but an image of '
                f'{grid[0] * self.patch} x {grid[1] * self.patch} pixels needs them resampled, '
                'which has no gradient. Give the size of the training images: '
                f'model_args=dict(img_size=({grid[0] * self.patch}, {grid[1] * self.patch})).'
            )
        cached = self._resampled
        if cached is None or cached[0] != grid or not _equal(cached[1], native):
            cached = self._resampled = (grid, native.detach().clone(), self._resample(native, grid))
        index = gen_relative_position_index(grid, device=native.device).view(-1)
        area = grid[0] * grid[1] + 1
        return [
            table[index].view(area, area, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
            for table in cached[2]
        ]

    def _resample(self, tables: Tensor, grid: Grid) -> Tensor:
        entries = (2 * grid[0] - 1) * (2 * grid[1] - 1) + _EXTRA
        return torch.stack(
            [
                resize_rel_pos_bias_table(
                    table,
                    new_window_size=grid,
                    new_bias_shape=(entries, table.shape[1]),
                    old_window_size=self.native,
                )
                for table in tables.detach()
            ]
        )

    def blocks(self) -> list[Block]:
        """The transformer blocks; see :meth:`Trunk.blocks`."""
        name, width = timm_models.EVA_BLOCK, self.model.embed_dim
        return [
            name.block(b, width, partial(_attend, b, i), stride=self.patch)
            for i, b in enumerate(self.model.blocks)
        ]


def _equal(first: Tensor, second: Tensor) -> bool:
    return first.dtype == second.dtype and first.device == second.device and first.equal(second)


def _attend(block: Any, index: int, x: Tensor, state: TokenState) -> Tensor:
    native = state.shared is None
    return block.attn(x) if native else _biased(block.attn, x, state.shared[index])


def _biased(attention: Any, x: Tensor, bias: Tensor | None) -> Tensor:
    """Upstream's attention with another bias than the one its own table gives.

    Args:
        attention: timm's module.
        x: Tokens ``(B, N, C)``.
        bias: ``(1, heads, N, N)``, or None.
    """
    qkv = attention.qkv(x) if attention.q_bias is None else _qkv(attention, x)
    q, k, v = qkv.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    dropout = attention.attn_drop.p if attention.training else 0.0
    if bias is not None:
        bias = bias.to(q.dtype)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
    return attention.proj_drop(attention.proj(out.transpose(1, 2).flatten(2)))


def _qkv(attention: Any, x: Tensor) -> Tensor:
    bias = torch.cat((attention.q_bias, attention.k_bias, attention.v_bias))
    if attention.qkv_bias_separate:
        return attention.qkv(x) + bias
    return F.linear(x, attention.qkv.weight, bias)
