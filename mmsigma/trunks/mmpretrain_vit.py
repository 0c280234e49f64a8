"""mmpretrain's VisionTransformer as a trunk."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmsigma.errors import InvalidSettingError, WeightsError
from mmsigma.injection import Block, residual
from mmsigma.layout import Flow, TokenLayout
from mmsigma.registry import TRUNKS
from mmsigma.trunks import weights as weight_files
from mmsigma.trunks.base import Trunk

_PREFIX = 'backbone.'


@TRUNKS.register_module()
class MMPretrainViT(Trunk):
    """An ``mmpretrain.models.VisionTransformer``.

    Args:
        arch: A name of mmpretrain's ``arch_zoo`` (``'deit-small'``, ``'dinov2-small'``, ...) or a
            dict with ``embed_dims``, ``num_layers``, ``num_heads``, ``feedforward_channels``.
        weights: A local mmpretrain checkpoint (with or without ``backbone.`` before its keys), or
            ``'random'``.
        mode, dtype: See :class:`~mmsigma.trunks.base.Trunk`.
        final_norm: Whether output maps pass the model's final norm.
        model_args: Further arguments of the model, e.g. ``dict(img_size=518, patch_size=14)``.

    Raises:
        InvalidSettingError: mmpretrain refuses ``arch`` or ``model_args``.
        WeightsError: The weights cannot be read or loaded.
    """

    def __init__(
        self,
        arch: str | dict[str, int],
        weights: str,
        mode: str = 'eval',
        dtype: str = 'float32',
        final_norm: bool = True,
        model_args: dict[str, Any] | None = None,
    ) -> None:
        # Imported here: mmpretrain is heavy, and only this family needs it.
        from mmpretrain.models import VisionTransformer

        try:
            model = VisionTransformer(
                arch=arch, out_type='featmap', final_norm=final_norm, **(model_args or {})
            )
        except (TypeError, ValueError, AssertionError) as error:
            raise InvalidSettingError(
                f'mmpretrain cannot build VisionTransformer(arch={arch!r}) with '
                f'model_args={model_args}: {error}.'
            ) from error
        if weights == 'hub':
            raise WeightsError(
                "MMPretrainViT has no 'hub' weights: download a checkpoint of mmpretrain's model "
                'zoo and give the file as `weights`, or use TimmViT, which has them.'
            )
        if weights == 'random':
            model.init_weights()
        else:
            state = weight_files.read(weights)
            if any(key.startswith(_PREFIX) for key in state):
                # The rest of a classifier's checkpoint is its neck and head.
                state = {
                    k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)
                }
            weight_files.load(model, state, weights, () if final_norm else ('ln1.',))
        name = arch if isinstance(arch, str) else 'custom'
        super().__init__(model, f'mmpretrain/{name}', weights != 'random', mode, dtype)
        self.final_norm = final_norm
        self.patch = model.patch_embed.projection.stride[0]
        self.has_class_token = model.cls_token is not None
        for layer in model.layers:
            # The FFN shall return its branch; AdapterBank adds the identity, as it does for all.
            layer.ffn.add_identity = False

    def embed(self, images: Tensor) -> tuple[Tensor, Flow]:
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
        return tokens, Flow(TokenLayout(height, width, prefix, self.has_class_token))

    def blocks(self) -> list[Block]:
        """The encoder layers; see :meth:`Trunk.blocks`."""
        width = self.model.embed_dims
        return [
            Block(b, width, residual(partial(_attention, b)), partial(_mlp, b), stride=self.patch)
            for b in self.model.layers
        ]

    def norm(self, tokens: Tensor, index: int) -> Tensor:
        """The final norm; see :meth:`Trunk.norm`."""
        return self.model.ln1(tokens) if self.final_norm else tokens


def _attention(layer: Any, x: Tensor) -> Tensor:
    return layer.attn(layer.ln1(x))


def _mlp(layer: Any, x: Tensor, flow: Flow) -> Tensor:
    return layer.ffn(layer.ln2(x))
