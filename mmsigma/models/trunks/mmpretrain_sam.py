"""mmpretrain's ViTSAM, the image encoder of Segment Anything."""

from functools import partial
from typing import Any

from torch import Tensor

from mmsigma.models.trunks.block import Block
from mmsigma.models.trunks.mmpretrain_models import (
    BLOCK,
    Arch,
    Convert,
    MMPretrainTrunk,
    read,
    settings,
)
from mmsigma.models.trunks.tokens import TokenLayout, TokenState
from mmsigma.registry import TRUNKS


@TRUNKS.register_module()
class MMPretrainSAM(MMPretrainTrunk):
    """An ``mmpretrain.models.ViTSAM`` (Kirillov et al., arXiv 2304.02643) without its neck.

    Most blocks attend within windows, which upstream pads inside the block; relative positions are
    interpolated to each grid, so any image size runs.

    Args:
        arch, weights, mode, dtype: See :class:`MMPretrainTrunk`; a dict as ``arch``
            has ``embed_dims``, ``num_layers``, ``num_heads``, ``feedforward_channels``,
            ``global_attn_indexes``.
        model_args: Further arguments of the model. ``img_size`` is 1024 unless they or the config
            say else: what the released weights have.
    """

    upstream = 'ViTSAM'
    left_out = ('channel_reduction.',)

    def __init__(
        self,
        arch: Arch,
        weights: str,
        mode: str = 'eval',
        dtype: str = 'float32',
        model_args: dict[str, Any] | None = None,
    ) -> None:
        arguments = {'img_size': 1024, **settings(self.upstream, arch, model_args)}
        state = read(self.upstream, weights)
        # Without output channels there is no neck.
        self._build(arguments, weights, state, mode, dtype, out_type='featmap', out_channels=0)

    def converts(self, model: Any) -> list[Convert]:
        """Relative positions, too; see :meth:`MMPretrainTrunk.converts`."""
        own = super().converts(model) if model.use_abs_pos else []
        return [model._prepare_relative_position, *own]

    def embed(self, images: Tensor) -> tuple[Tensor, TokenState]:
        """Patch and position embedding; see :meth:`Trunk.embed`."""
        model = self.model
        tokens, (height, width) = model.patch_embed(images.to(self.dtype))
        if model.use_abs_pos:
            from mmpretrain.models.utils import resize_pos_embed

            position = resize_pos_embed(
                model.pos_embed.flatten(1, 2),
                model.patch_resolution,
                (height, width),
                mode=model.interpolate_mode,
                num_extra_tokens=0,
            )
            tokens = model.drop_after_pos(tokens + position)
        return tokens, TokenState(TokenLayout(height, width))

    def blocks(self) -> list[Block]:
        """The encoder layers; see :meth:`Trunk.blocks`."""
        width = self.model.embed_dims
        return [
            BLOCK.block(b, width, partial(_attend, b), stride=self.patch) for b in self.model.layers
        ]


def _attend(layer: Any, x: Tensor, state: TokenState) -> Tensor:
    from mmpretrain.models.backbones.vit_sam import window_partition, window_unpartition

    grid = (state.layout.height, state.layout.width)
    y = x.unflatten(1, grid)
    if layer.window_size > 0:
        windows, padded = window_partition(y, layer.window_size)
        y = window_unpartition(layer.attn(windows), layer.window_size, padded, grid)
    else:
        y = layer.attn(y)
    return y.flatten(1, 2)
