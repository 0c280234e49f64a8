"""timm's EVA family: DINOv3, EVA-02, Perception Encoder, all with rotary embeddings."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from timm.models.eva import Eva, EvaBlock, EvaBlockPostNorm
from torch import Tensor

from mmsigma.models.trunks import timm_models, windows
from mmsigma.models.trunks.block import CALLED, PRE_NORM, Block, layer
from mmsigma.models.trunks.tokens import TokenLayout, TokenState
from mmsigma.models.trunks.windows import Region
from mmsigma.registry import TRUNKS

# By timm's names: models with a layer each for queries, keys and values, and models whose queries
# and values have biases beside that of their one layer.
_SPLIT = re.compile(r'eva02_(base|large)_|.*_sapiens2$')
_BIASED = re.compile(
    r'eva|.*_qkvb$|vit_(small|base|large)_\w*lingbot$|vit_(tiny|base|medium|betwixt)_\w*rope_reg'
)


@TRUNKS.register_module()
class TimmEVA(timm_models.WindowedTimmTrunk):
    """A ``timm.models.Eva``: DINOv3 (Siméoni et al., 2025), EVA-02 (Fang et al., 2023), PE and kin.

    Rotary embeddings follow the grid of each image; absolute ones, where the model has them, are
    resampled to it. DINOv3's random shift, scale and jitter of coordinates happen only where the
    trunk's mode is ``train``.

    Args:
        model_name: E.g. ``vit_small_patch16_dinov3``, ``eva02_base_patch14_224``.
        weights, mode, dtype, final_norm, model_args, window, global_blocks: See
            :class:`WindowedTimmTrunk`; in windows, tokens keep the rotary embedding of their place
            in the image.
    """

    classes = (Eva, EvaBlock, EvaBlockPostNorm)

    @classmethod
    def provided(cls, config: Mapping[str, Any]) -> frozenset[str]:
        """Told by timm's name and ``model_args``; see :meth:`Trunk.provided`."""
        name, args = config['model_name'].partition('.')[0], config.get('model_args') or {}
        lacks: set[str] = set()
        if args.get('use_post_norm', 'enormous' in name):
            lacks.add(PRE_NORM)
        if not args.get('qkv_fused', not _SPLIT.match(name)):
            lacks |= layer('attn.qkv')
        elif _BIASED.match(name) and args.get('qkv_bias', True):
            lacks.add(CALLED)
        return cls.provides - lacks

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
        mixed = self.model.rope_mixed  # then every block has a rotary embedding of its own
        return [
            timm_models.EVA_BLOCK.block(
                b,
                self.model.embed_dim,
                partial(_attend, b, index if mixed else None, side),
                post_norm=isinstance(b, EvaBlockPostNorm),
                stride=self.patch,
                prompts=True,
            )
            for index, (b, side) in enumerate(zip(self.model.blocks, self.windows, strict=True))
        ]


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
