"""mmpretrain's ViTSAM, the image encoder of Segment Anything."""

from functools import partial
from typing import Any

from torch import Tensor

from mmsigma.models.trunks import mmpretrain_models
from mmsigma.models.trunks.base import Trunk
from mmsigma.models.trunks.block import Block
from mmsigma.models.trunks.mmpretrain_models import Arch
from mmsigma.models.trunks.tokens import TokenLayout, TokenState
from mmsigma.registry import TRUNKS

_UPSTREAM = 'ViTSAM'


@TRUNKS.register_module()
class MMPretrainSAM(Trunk):
    """An ``mmpretrain.models.ViTSAM`` (Kirillov et al., arXiv 2304.02643) without its neck.

    Most blocks attend within windows, which upstream pads inside the block; relative positions are
    interpolated to each grid, so any image size runs.

    Args:
        arch: A name of mmpretrain's ``arch_zoo`` (``'base'``, ``'large'``, ``'huge'``), a dict with
            ``embed_dims``, ``num_layers``, ``num_heads``, ``feedforward_channels``,
            ``global_attn_indexes``, or the path of an mmpretrain config (``.py``) whose
            ``model.backbone`` is built.
        weights: A local mmpretrain checkpoint (with or without ``backbone.`` before its keys), or
            ``'random'``.
        mode, dtype: See :class:`~mmsigma.models.trunks.base.Trunk`.
        model_args: Further arguments of the model. ``img_size`` is 1024 unless they or the config
            say else: what the released weights have.

    Raises:
        InvalidSettingError: mmpretrain refuses ``arch`` or ``model_args``, or the config builds
            another backbone.
        WeightsError: The weights cannot be read or loaded.
    """

    builds_without_values = False

    def __init__(
        self,
        arch: Arch,
        weights: str,
        mode: str = 'eval',
        dtype: str = 'float32',
        model_args: dict[str, Any] | None = None,
    ) -> None:
        settings = {'img_size': 1024, **mmpretrain_models.settings(_UPSTREAM, arch, model_args)}
        state = mmpretrain_models.read(_UPSTREAM, weights)
        # Without output channels there is no neck.
        model = mmpretrain_models.create(_UPSTREAM, settings, out_type='featmap', out_channels=0)
        converts = [model._prepare_relative_position]
        if model.use_abs_pos:
            converts.append(model._prepare_pos_embed)
        mmpretrain_models.load(model, state, weights, ('channel_reduction.',), *converts)
        name = mmpretrain_models.label(model, settings)
        super().__init__(model, name, state is not None, mode, dtype)
        self.patch = model.patch_embed.projection.stride[0]
        for layer in model.layers:
            # The FFN shall return its branch; AdapterBank adds the identity, as it does for all.
            layer.ffn.add_identity = False

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
            Block(
                b,
                width,
                partial(_attention, b),
                partial(_mlp, b),
                stride=self.patch,
                norms=(b.ln1, b.ln2),
            )
            for b in self.model.layers
        ]

    def norm(self, tokens: Tensor, index: int) -> Tensor:
        """Nothing: the model has no final norm."""
        return tokens


def _attention(layer: Any, x: Tensor, state: TokenState) -> tuple[Tensor, Tensor, TokenState]:
    from mmpretrain.models.backbones.vit_sam import window_partition, window_unpartition

    grid = (state.layout.height, state.layout.width)
    y = layer.ln1(x.unflatten(1, grid))
    if layer.window_size > 0:
        windows, padded = window_partition(y, layer.window_size)
        y = window_unpartition(layer.attn(windows), layer.window_size, padded, grid)
    else:
        y = layer.attn(y)
    return x, y.flatten(1, 2), state


def _mlp(layer: Any, x: Tensor, state: TokenState) -> Tensor:
    return layer.ffn(layer.ln2(x))
