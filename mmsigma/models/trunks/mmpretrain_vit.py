"""mmpretrain's VisionTransformer as a trunk: DINOv2, MAE, DeiT, CLIP, ..."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmsigma.models.trunks import mmpretrain_models
from mmsigma.models.trunks.base import Trunk
from mmsigma.models.trunks.block import Block, residual
from mmsigma.models.trunks.mmpretrain_models import Arch
from mmsigma.models.trunks.tokens import TokenLayout, TokenState
from mmsigma.registry import TRUNKS

_UPSTREAM = 'VisionTransformer'


@TRUNKS.register_module()
class MMPretrainViT(Trunk):
    """An ``mmpretrain.models.VisionTransformer`` (Dosovitskiy et al., arXiv 2010.11929).

    Args:
        arch: A name of mmpretrain's ``arch_zoo`` (``'deit-small'``, ``'dinov2-small'``, ...), a
            dict with ``embed_dims``, ``num_layers``, ``num_heads``, ``feedforward_channels``, or
            the path of an mmpretrain config (``.py``) whose ``model.backbone`` is built.
        weights: A local mmpretrain checkpoint (with or without ``backbone.`` before its keys), or
            ``'random'``.
        mode, dtype: See :class:`~mmsigma.models.trunks.base.Trunk`.
        final_norm: Whether output maps pass the model's final norm; None: as upstream or the config
            has it.
        model_args: Further arguments of the model, e.g. ``dict(img_size=518, patch_size=14)``.

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
        final_norm: bool | None = None,
        model_args: dict[str, Any] | None = None,
    ) -> None:
        settings = mmpretrain_models.settings(_UPSTREAM, arch, model_args)
        state = mmpretrain_models.read(_UPSTREAM, weights)
        normed, built = mmpretrain_models.final_norm(settings, final_norm, True, state)
        model = mmpretrain_models.create(_UPSTREAM, settings, out_type='featmap', final_norm=built)
        mmpretrain_models.load(model, state, weights, ('ln2.',), model._prepare_pos_embed)
        name = mmpretrain_models.label(model, settings)
        super().__init__(model, name, state is not None, mode, dtype)
        self.final_norm = normed
        if built and not normed:
            del model.ln1
        self.patch = model.patch_embed.projection.stride[0]
        self.has_class_token = model.cls_token is not None
        for layer in model.layers:
            # The FFN shall return its branch; AdapterBank adds the identity, as it does for all.
            layer.ffn.add_identity = False

    def embed(self, images: Tensor) -> tuple[Tensor, TokenState]:
        """Patch, class token and position embedding; see :meth:`Trunk.embed`."""
        model = self.model
        patches, (height, width) = model.patch_embed(images.to(self.dtype))
        if model.cls_token is not None:
            class_token = model.cls_token.expand(len(patches), -1, -1)
            patches = torch.cat((class_token, patches), dim=1)
        position = model.resize_pos_embed(
            model.pos_embed,
            model.patch_resolution,
            (height, width),
            mode=model.interpolate_mode,
            num_extra_tokens=model.num_extra_tokens,
        )
        tokens = model.pre_norm(model.drop_after_pos(patches + position))
        prefix = model.num_extra_tokens
        return tokens, TokenState(TokenLayout(height, width, prefix, self.has_class_token))

    def blocks(self) -> list[Block]:
        """The encoder layers; see :meth:`Trunk.blocks`."""
        width = self.model.embed_dims
        return [
            Block(
                b,
                width,
                residual(partial(_attention, b)),
                partial(_mlp, b),
                stride=self.patch,
                norms=(b.ln1, b.ln2),
                prompts=True,
            )
            for b in self.model.layers
        ]

    def norm(self, tokens: Tensor, index: int) -> Tensor:
        """The final norm; see :meth:`Trunk.norm`."""
        return self.model.ln1(tokens) if self.final_norm else tokens


def _attention(layer: Any, x: Tensor) -> Tensor:
    return layer.attn(layer.ln1(x))


def _mlp(layer: Any, x: Tensor, state: TokenState) -> Tensor:
    return layer.ffn(layer.ln2(x))
