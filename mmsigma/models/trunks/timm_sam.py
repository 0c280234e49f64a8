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
from mmsigma.models.trunks.base import Trunk
from mmsigma.models.trunks.block import Block
from mmsigma.models.trunks.tokens import TokenLayout, TokenState
from mmsigma.registry import TRUNKS

# What upstream has behind its last block; a trunk ends there.
_BEHIND = ('neck', 'head')


@TRUNKS.register_module()
class TimmSAM(Trunk):
    """A ``timm.models.VisionTransformerSAM``: most blocks attend in windows, some to the whole map.

    Its position embedding is resampled to the grid of each input, and windows are padded inside the
    blocks, both as upstream does it. It has no final norm: maps are what the blocks return.

    Args:
        model_name: timm's name, e.g. ``samvit_base_patch16``.
        weights: A local file, ``'hub'`` to download timm's pretrained weights, or ``'random'``.
        mode, dtype: See :class:`~mmsigma.models.trunks.base.Trunk`.
        model_args: Further arguments of the timm model, e.g. ``dict(drop_path_rate=0.1)``.

    Raises:
        UnknownNameError: timm has no such model.
        InvalidSettingError: The model is of another family, has rotary embeddings, which upstream
            ties to one image size, or timm refuses ``model_args``.
        WeightsError: The weights cannot be had, read or loaded.
    """

    def __init__(
        self,
        model_name: str,
        weights: str,
        mode: str = 'eval',
        dtype: str = 'float32',
        model_args: dict[str, Any] | None = None,
    ) -> None:
        model = timm_models.create(model_name, model_args)
        known = (VisionTransformerSAM, UpstreamBlock)
        timm_models.require(model, model_name, 'TimmSAM', known, getattr(model, 'blocks', ()))
        if model.rope_global is not None:
            raise InvalidSettingError(
                f'TimmSAM cannot run {model_name!r} with use_rope=True: timm prepares its rotary '
                'embeddings for one image size. No published weights have them; leave it out.'
            )
        for name in _BEHIND:
            setattr(model, name, nn.Identity())
        ignored = tuple(f'{name}.' for name in _BEHIND)
        loaded = timm_models.load(model, model_name, weights, model_args, ignored)
        super().__init__(model, f'timm/{model_name}', loaded, mode, dtype)
        self.patch = model.patch_embed.patch_size[0]

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
        width = self.model.embed_dim
        return [
            Block(
                b,
                width,
                partial(_attention, b),
                partial(_mlp, b),
                stride=self.patch,
                norms=(b.norm1, b.norm2),
            )
            for b in self.model.blocks
        ]

    def norm(self, tokens: Tensor, index: int) -> Tensor:
        """Nothing: this encoder has a neck instead of a final norm; see :meth:`Trunk.norm`."""
        return tokens


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


def _mlp(block: Any, x: Tensor, state: TokenState) -> Tensor:
    return block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
