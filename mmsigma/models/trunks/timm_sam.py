"""The image encoder of Segment Anything (Kirillov et al., ICCV 2023, arXiv 2304.02643) in timm."""

from functools import partial
from typing import Any

from timm.layers.pos_embed import resample_abs_pos_embed_nhwc
from timm.models.vision_transformer_sam import Block as UpstreamBlock
from timm.models.vision_transformer_sam import (
    VisionTransformerSAM,
    window_partition,
    window_unpartition,
)
from torch import Tensor, nn

from mmsigma.errors import InvalidSettingError
from mmsigma.models.trunks import timm_models
from mmsigma.models.trunks.block import Block
from mmsigma.models.trunks.tokens import TokenLayout, TokenState
from mmsigma.registry import TRUNKS


@TRUNKS.register_module()
class TimmSAM(timm_models.TimmTrunk):
    """A ``timm.models.VisionTransformerSAM``: most blocks attend in windows, some to the whole map.

    Its position embedding is resampled to the grid of each input, and windows are padded inside the
    blocks, both as upstream does it. It has no final norm: maps are what the blocks return.

    Args:
        model_name: E.g. ``samvit_base_patch16``.
        weights, mode, dtype, model_args: See :class:`TimmTrunk`.

    Raises:
        InvalidSettingError: The model has rotary embeddings, which upstream ties to one image size.
    """

    classes = (VisionTransformerSAM, UpstreamBlock)
    left_out = ('neck.', 'head.')

    def cut(self, model: Any, model_name: str) -> str:
        """Cut what upstream has behind its last block."""
        if model.rope_global is not None:
            raise InvalidSettingError(
                f'TimmSAM cannot run {model_name!r} with use_rope=True: timm prepares its rotary '
                'embeddings for one image size. No published weights have them; leave it out.'
            )
        model.neck = nn.Identity()
        return super().cut(model, model_name)

    def embed(self, images: Tensor) -> tuple[Tensor, TokenState]:
        """Patch and position embedding; see :meth:`Trunk.embed`."""
        model = self.model
        grid = model.patch_embed(images.to(self.dtype))  # (B, h, w, C)
        if model.pos_embed is not None:
            grid = grid + resample_abs_pos_embed_nhwc(model.pos_embed, grid.shape[1:3])
        grid = model.norm_pre(model.patch_drop(model.pos_drop(grid)))
        layout = TokenLayout(grid.shape[1], grid.shape[2])
        # In memory the convolution's map has its channels first; the blocks' sums would keep that.
        return grid.flatten(1, 2).contiguous(), TokenState(layout)

    def blocks(self) -> list[Block]:
        """The transformer blocks; see :meth:`Trunk.blocks`."""
        mlp = timm_models.SCALED_BLOCK.mlp_step
        width = self.model.embed_dim
        return [
            Block(b, width, partial(_attention, b), mlp(b), 0, self.patch, (b.norm1, b.norm2))
            for b in self.model.blocks
        ]


def _attention(block: Any, x: Tensor, state: TokenState) -> tuple[Tensor, Tensor, TokenState]:
    size = (state.layout.height, state.layout.width)
    grid = block.norm1(x).unflatten(1, size)
    if block.window_size == 0:  # attends to the whole map
        grid = block.drop_path1(block.ls1(block.attn(grid)))
    else:
        windows, padded = window_partition(grid, block.window_size)
        windows = block.drop_path1(block.ls1(block.attn(windows)))
        grid = window_unpartition(windows, block.window_size, size, padded)
    return x, grid.flatten(1, 2), state
