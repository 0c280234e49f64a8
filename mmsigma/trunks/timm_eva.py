"""timm's EVA family: DINOv3, EVA-02, Perception Encoder, all with rotary embeddings."""

from functools import partial
from typing import Any

import torch
from timm.models.eva import Eva, EvaBlock, EvaBlockPostNorm
from torch import Tensor, nn

from mmsigma.injection import AttentionStep, Block, MLPStep
from mmsigma.layout import Flow, TokenLayout
from mmsigma.registry import TRUNKS
from mmsigma.trunks import timm_models
from mmsigma.trunks.base import Trunk


@TRUNKS.register_module()
class TimmEVA(Trunk):
    """A ``timm.models.Eva``: DINOv3 (Siméoni et al., 2025), EVA-02 (Fang et al., 2023), PE and kin.

    Rotary embeddings follow the grid of each image; absolute ones, where the model has them, are
    resampled to it. DINOv3's random shift, scale and jitter of coordinates happen only where the
    trunk's mode is ``train``.

    Args:
        model_name: timm's name, e.g. ``vit_small_patch16_dinov3``, ``eva02_base_patch14_224``.
        weights: A local file, ``'hub'`` to download timm's pretrained weights, or ``'random'``.
        mode, dtype: See :class:`~mmsigma.trunks.base.Trunk`.
        final_norm: Whether output maps pass the model's final norm, if it has one.
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
        model = timm_models.create(model_name, model_args, dynamic_img_size=True)
        known = (Eva, EvaBlock, EvaBlockPostNorm)
        timm_models.require(model, model_name, 'TimmEVA', known, getattr(model, 'blocks', ()))
        timm_models.cut_head(model)
        loaded = timm_models.load(model, model_name, weights, model_args, timm_models.HEAD)
        super().__init__(model, f'timm/{model_name}', loaded, mode, dtype)
        if not final_norm:
            self.model.norm = nn.Identity()
        self.patch = model.patch_embed.patch_size[0]
        self.has_class_token = model.cls_token is not None

    def embed(self, images: Tensor) -> tuple[Tensor, Flow]:
        """Patch, prefix and position embedding; the rotary one is shared by the blocks."""
        model = self.model
        patches = model.patch_embed(images.to(self.dtype))  # (B, h, w, C)
        layout = TokenLayout(
            patches.shape[1], patches.shape[2], model.num_prefix_tokens, self.has_class_token
        )
        tokens, rope = model._pos_embed(patches)
        return model.norm_pre(tokens), Flow(layout, rope)

    def blocks(self) -> list[Block]:
        """The transformer blocks; see :meth:`Trunk.blocks`."""
        width, mixed = self.model.embed_dim, self.model.rope_mixed
        return [
            # With mixed frequencies every block has a rotary embedding of its own.
            Block(
                b,
                width,
                *_steps(b, index if mixed else None),
                stride=self.patch,
                norms=_norms(b),
                prompts=True,
            )
            for index, b in enumerate(self.model.blocks)
        ]

    def norm(self, tokens: Tensor, index: int) -> Tensor:
        """The final norm; see :meth:`Trunk.norm`."""
        return self.model.norm(tokens)


def _steps(block: Any, own: int | None) -> tuple[AttentionStep, MLPStep]:
    if isinstance(block, EvaBlockPostNorm):
        return partial(_post_attention, block, own), partial(_post_mlp, block)
    return partial(_attention, block, own), partial(_mlp, block)


def _norms(block: Any) -> tuple[nn.Module, nn.Module] | None:
    return None if isinstance(block, EvaBlockPostNorm) else (block.norm1, block.norm2)


def _rope(block: Any, flow: Flow, own: int | None) -> Tensor | None:
    """The rotary embedding of what stands behind the trunk's own prefix tokens."""
    rope = flow.shared if own is None or flow.shared is None else flow.shared[own]
    further = flow.layout.prefix - block.attn.num_prefix_tokens
    if rope is None or not further:
        return rope
    # Prompts have no place in the image, so they are not rotated: sine 0, cosine 1.
    still = rope.new_zeros(*rope.shape[:-2], further, rope.shape[-1])
    still[..., rope.shape[-1] // 2 :] = 1
    return torch.cat((still, rope), dim=-2)


def _attention(block: Any, own: int | None, x: Tensor, flow: Flow) -> tuple[Tensor, Tensor, Flow]:
    branch = block.attn(block.norm1(x), rope=_rope(block, flow, own))
    if block.gamma_1 is not None:
        branch = block.gamma_1 * branch
    return x, block.drop_path1(branch), flow


def _mlp(block: Any, x: Tensor, flow: Flow) -> Tensor:
    branch = block.mlp(block.norm2(x))
    if block.gamma_2 is not None:
        branch = block.gamma_2 * branch
    return block.drop_path2(branch)


def _post_attention(
    block: Any, own: int | None, x: Tensor, flow: Flow
) -> tuple[Tensor, Tensor, Flow]:
    return x, block.drop_path1(block.norm1(block.attn(x, rope=_rope(block, flow, own)))), flow


def _post_mlp(block: Any, x: Tensor, flow: Flow) -> Tensor:
    return block.drop_path2(block.norm2(block.mlp(x)))
