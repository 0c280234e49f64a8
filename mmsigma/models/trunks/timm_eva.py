"""timm's EVA family: DINOv3, EVA-02, Perception Encoder, all with rotary embeddings."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from timm.models.eva import Eva, EvaBlock, EvaBlockPostNorm
from torch import Tensor, nn

from mmsigma.models.trunks import timm_models, windows
from mmsigma.models.trunks.base import Trunk
from mmsigma.models.trunks.block import AttentionStep, Block, MLPStep
from mmsigma.models.trunks.tokens import TokenLayout, TokenState
from mmsigma.models.trunks.windows import Region
from mmsigma.registry import TRUNKS


@TRUNKS.register_module()
class TimmEVA(Trunk):
    """A ``timm.models.Eva``: DINOv3 (Siméoni et al., 2025), EVA-02 (Fang et al., 2023), PE and kin.

    Rotary embeddings follow the grid of each image; absolute ones, where the model has them, are
    resampled to it. DINOv3's random shift, scale and jitter of coordinates happen only where the
    trunk's mode is ``train``.

    Args:
        model_name: timm's name, e.g. ``vit_small_patch16_dinov3``, ``eva02_base_patch14_224``.
        weights: A local file, ``'hub'`` to download timm's pretrained weights, or ``'random'``.
        mode, dtype: See :class:`~mmsigma.models.trunks.base.Trunk`.
        final_norm: Whether output maps pass the model's final norm, if it has one.
        model_args: Further arguments of the timm model, e.g. ``dict(img_size=224)``.
        window, global_blocks: Attention inside windows; see :class:`TimmViT`. Tokens keep the
            rotary embedding of their place in the image.

    Raises:
        UnknownNameError: timm has no such model.
        InvalidSettingError: The model is of another family, timm refuses ``model_args``, a window
            below one token, or global blocks that the model does not have.
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
        window: int | None = None,
        global_blocks: int | Sequence[int] | None = None,
    ) -> None:
        model = timm_models.create(model_name, model_args, dynamic_img_size=True)
        known = (Eva, EvaBlock, EvaBlockPostNorm)
        timm_models.require(model, model_name, 'TimmEVA', known, getattr(model, 'blocks', ()))
        sides, windowed = windows.plan(window, global_blocks, len(model.blocks))
        timm_models.cut_head(model)
        loaded = timm_models.load(model, model_name, weights, model_args, timm_models.HEAD)
        name = f'timm/{model_name}' + (f'?{windowed}' if windowed else '')
        super().__init__(model, name, loaded, mode, dtype)
        self.windows = sides
        if not final_norm:
            self.model.norm = nn.Identity()
        self.patch = model.patch_embed.patch_size[0]
        self.has_class_token = model.cls_token is not None

    def embed(self, images: Tensor) -> tuple[Tensor, TokenState]:
        """Patch, prefix and position embedding; the rotary one is shared by the blocks."""
        model = self.model
        patches = model.patch_embed(images.to(self.dtype))  # (B, h, w, C)
        layout = TokenLayout(
            patches.shape[1], patches.shape[2], model.num_prefix_tokens, self.has_class_token
        )
        tokens, rope = model._pos_embed(patches)
        return model.norm_pre(tokens), TokenState(layout, rope)

    def blocks(self) -> list[Block]:
        """The transformer blocks; see :meth:`Trunk.blocks`."""
        width, mixed = self.model.embed_dim, self.model.rope_mixed
        return [
            # With mixed frequencies every block has a rotary embedding of its own.
            Block(
                b,
                width,
                *_steps(b, index if mixed else None, side),
                stride=self.patch,
                norms=_norms(b),
                prompts=True,
            )
            for index, (b, side) in enumerate(zip(self.model.blocks, self.windows, strict=True))
        ]

    def norm(self, tokens: Tensor, index: int) -> Tensor:
        """The final norm; see :meth:`Trunk.norm`."""
        return self.model.norm(tokens)


def _steps(block: Any, own: int | None, side: int | None) -> tuple[AttentionStep, MLPStep]:
    if isinstance(block, EvaBlockPostNorm):
        return partial(_post_attention, block, own, side), partial(_post_mlp, block)
    return partial(_attention, block, own, side), partial(_mlp, block)


def _norms(block: Any) -> tuple[nn.Module, nn.Module] | None:
    return None if isinstance(block, EvaBlockPostNorm) else (block.norm1, block.norm2)


def _rope(block: Any, state: TokenState, own: int | None, batch: int, region: Region | None) -> Any:
    """The rotary embedding of what stands behind the trunk's own prefix tokens, or None.

    ``(hw, 2 D)``, with a first axis of heads where these differ; of a region's windows
    ``(B * n, 1 or heads, k, 2 D)``, for ``batch`` of them.
    """
    rope = state.shared if own is None or state.shared is None else state.shared[own]
    if rope is None:
        return None
    if region is not None:
        ropes = region.cut(rope.unflatten(0, (1, -1)) if rope.ndim == 2 else rope)
        ropes = ropes.transpose(0, 1)  # (n, 1 or heads, k, 2 D)
        rope = ropes.repeat(batch // len(ropes), 1, 1, 1)
    further = state.layout.prefix - block.attn.num_prefix_tokens
    if not further:
        return rope
    # Prompts have no place in the image, so they are not rotated: sine 0, cosine 1.
    still = rope.new_zeros(*rope.shape[:-2], further, rope.shape[-1])
    still[..., rope.shape[-1] // 2 :] = 1
    return torch.cat((still, rope), dim=-2)


def _attend(block: Any, own: int | None, side: int | None, x: Tensor, state: TokenState) -> Tensor:
    def attention(tokens: Tensor, region: Region | None) -> Tensor:
        return block.attn(tokens, rope=_rope(block, state, own, len(tokens), region))

    return windows.attend(attention, x, state.layout, side)


def _attention(
    block: Any, own: int | None, side: int | None, x: Tensor, state: TokenState
) -> tuple[Tensor, Tensor, TokenState]:
    branch = _attend(block, own, side, block.norm1(x), state)
    if block.gamma_1 is not None:
        branch = block.gamma_1 * branch
    return x, block.drop_path1(branch), state


def _mlp(block: Any, x: Tensor, state: TokenState) -> Tensor:
    branch = block.mlp(block.norm2(x))
    if block.gamma_2 is not None:
        branch = block.gamma_2 * branch
    return block.drop_path2(branch)


def _post_attention(
    block: Any, own: int | None, side: int | None, x: Tensor, state: TokenState
) -> tuple[Tensor, Tensor, TokenState]:
    return x, block.drop_path1(block.norm1(_attend(block, own, side, x, state))), state


def _post_mlp(block: Any, x: Tensor, state: TokenState) -> Tensor:
    return block.drop_path2(block.norm2(block.mlp(x)))
