"""Plain vision transformers of timm: DINOv2 with and without registers, SigLIP2 and their kin."""

from functools import partial
from typing import Any

import timm
from timm.models.vision_transformer import Block as UpstreamBlock
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from mmsigma.errors import InvalidSettingError, UnknownNameError, WeightsError, unknown
from mmsigma.injection import Block
from mmsigma.layout import TokenLayout
from mmsigma.registry import TRUNKS
from mmsigma.trunks import weights as weight_files
from mmsigma.trunks.base import Trunk

# What upstream has behind its final norm; a trunk ends there.
_HEAD = ('head.', 'fc_norm.', 'attn_pool.')


@TRUNKS.register_module()
class TimmViT(Trunk):
    """A ``timm.models.VisionTransformer`` with timm's standard pre-norm block.

    Args:
        model_name: timm's name, e.g. ``vit_small_patch14_dinov2`` (``..._reg4_dinov2``: registers).
        weights: A local safetensors or pth file (timm's layout, or a release's that timm converts),
            ``'hub'`` to download timm's pretrained weights, or ``'random'``.
        mode, dtype: See :class:`~mmsigma.trunks.base.Trunk`.
        final_norm: Whether output maps pass the model's final norm.
        model_args: Further arguments of the timm model, e.g. ``dict(img_size=224)``.

    Raises:
        UnknownNameError: timm has no such model.
        InvalidSettingError: The model is of another family, or timm refuses ``model_args``.
        WeightsError: The weights cannot be had, read or loaded.
    """

    def __init__(
        self,
        model_name: str,
        weights: str,
        mode: str = 'eval',
        dtype: str = 'float32',
        final_norm: bool = True,
        model_args: dict[str, Any] | None = None,
    ) -> None:
        if not timm.is_model(str(model_name)):
            raise UnknownNameError(
                unknown(
                    'timm model', model_name, timm.list_models('vit*'), 'See timm.list_models().'
                )
            )
        # Without pooling ('') nothing behind the final norm is built; dynamic_img_size resamples
        # the position embedding to the grid of each input.
        arguments: dict[str, Any] = {'num_classes': 0, 'global_pool': '', 'dynamic_img_size': True}
        try:
            model: Any = timm.create_model(model_name, **arguments, **(model_args or {}))
        except (TypeError, ValueError, AssertionError) as error:
            raise InvalidSettingError(
                f'timm cannot build {model_name!r} as a plain ViT with model_args={model_args}: '
                f'{error}.'
            ) from error
        if not isinstance(model, VisionTransformer) or any(
            type(block) is not UpstreamBlock for block in model.blocks
        ):
            block = next(iter(getattr(model, 'blocks', ())), None)
            found = type(model).__name__ + (f' with {type(block).__name__}' if block else '')
            raise InvalidSettingError(
                f'TimmViT runs timm VisionTransformers with the standard pre-norm block, but '
                f'{model_name!r} is a {found}. Use a plain vit_* model or another trunk.'
            )
        if weights == 'hub':
            weight_files.load(model, _from_hub(model_name, model_args), model_name, _HEAD)
        elif weights != 'random':
            state = _converted(weight_files.read(weights), model, model_name, weights)
            weight_files.load(model, state, weights, _HEAD)
        super().__init__(model, f'timm/{model_name}', weights != 'random', mode, dtype)
        if not final_norm:
            self.model.norm = nn.Identity()
        self.patch = model.patch_embed.patch_size[0]
        self.has_class_token = model.has_class_token

    def embed(self, images: Tensor) -> tuple[Tensor, TokenLayout]:
        """Patch, prefix and position embedding; see :meth:`Trunk.embed`."""
        model = self.model
        patches = model.patch_embed(images.to(self.dtype))  # (B, h, w, C)
        layout = TokenLayout(
            patches.shape[1], patches.shape[2], model.num_prefix_tokens, model.has_class_token
        )
        return model.norm_pre(model.patch_drop(model._pos_embed(patches))), layout

    def blocks(self) -> list[Block]:
        """The transformer blocks; see :meth:`Trunk.blocks`."""
        return [
            Block(b, partial(_attention, b), partial(_mlp, b), self.model.embed_dim)
            for b in self.model.blocks
        ]

    def norm(self, tokens: Tensor) -> Tensor:
        """The final norm; see :meth:`Trunk.norm`."""
        return self.model.norm(tokens)


def _attention(block: UpstreamBlock, x: Tensor) -> Tensor:
    return block.drop_path1(block.ls1(block.attn(block.norm1(x))))


def _mlp(block: UpstreamBlock, x: Tensor) -> Tensor:
    return block.drop_path2(block.ls2(block.mlp(block.norm2(x))))


def _converted(
    state: dict[str, Tensor], model: VisionTransformer, model_name: str, weights: str
) -> dict[str, Tensor]:
    try:
        # Releases of other code bases, and position embeddings of another image size.
        return checkpoint_filter_fn(state, model)
    except (RuntimeError, ValueError, AssertionError, LookupError, TypeError) as error:
        raise WeightsError(
            f'Trunk weights {weights!r} do not fit this architecture: timm cannot convert them to '
            f'{model_name!r} ({error}). Give the weights of this architecture, or the architecture '
            'of these weights.'
        ) from error


def _from_hub(model_name: str, model_args: dict[str, Any] | None) -> dict[str, Tensor]:
    try:
        # With its own pooling, so that timm finds a place for every tensor of the release.
        return timm.create_model(model_name, pretrained=True, **(model_args or {})).state_dict()
    except Exception as error:  # whatever the hub client raises; it has no common base
        raise WeightsError(
            f'timm could not fetch pretrained weights of {model_name!r}: {error}. Without network, '
            "download them elsewhere and give the file as `weights`; 'random' leaves the trunk "
            'untrained.'
        ) from error
