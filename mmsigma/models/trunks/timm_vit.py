"""Plain vision transformers of timm: DINOv2, SigLIP2, CLIP, MAE, DeiT III, AIMv2 and kin."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from timm.models.vision_transformer import Block as UpstreamBlock
from timm.models.vision_transformer import ResPostBlock, VisionTransformer
from torch import Tensor

from mmsigma.models.trunks import timm_models, windows
from mmsigma.models.trunks.block import PRE_NORM, Block
from mmsigma.models.trunks.tokens import TokenLayout, TokenState
from mmsigma.models.trunks.weights import position
from mmsigma.registry import TRUNKS


@TRUNKS.register_module()
class TimmViT(timm_models.WindowedTimmTrunk):
    """A ``timm.models.VisionTransformer`` with timm's standard blocks, pre-norm or post-norm.

    Args:
        model_name: E.g. ``vit_small_patch14_dinov2`` (``..._reg4_dinov2``: registers).
        weights, mode, dtype, final_norm, model_args, window, global_blocks: See
            :class:`WindowedTimmTrunk`.
        pos_resample: How the position embedding is brought to another grid, of weights and of
            images: ``bicubic-antialias`` (default, timm's own) or ``bicubic`` (as the release of
            DINOv2 does; without registers).

    Raises:
        UnknownNameError: There is no such ``pos_resample``.
    """

    classes = (VisionTransformer, UpstreamBlock, ResPostBlock)

    def __init__(
        self,
        model_name: str,
        weights: str,
        mode: str = 'eval',
        dtype: str = 'float32',
        final_norm: bool = True,
        model_args: dict[str, Any] | None = None,
        pos_resample: str = position.TIMM,
        window: int | None = None,
        global_blocks: int | Sequence[int] | None = None,
    ) -> None:
        position.check(pos_resample)
        self.pos_resample = pos_resample
        given = window, global_blocks
        super().__init__(model_name, weights, mode, dtype, final_norm, model_args, *given)

    @classmethod
    def provided(cls, config: Mapping[str, Any]) -> frozenset[str]:
        """Models called ``rpn`` norm behind their branches; see :meth:`Trunk.provided`."""
        return cls.provides - ({PRE_NORM} if '_rpn_' in config['model_name'] else set())

    def cut(self, model: Any, model_name: str) -> str:
        """Cut the head; another resampling gives other features, too."""
        windowed = super().cut(model, model_name)
        other = self.pos_resample != position.TIMM
        resampled = f'pos_resample={self.pos_resample}' if other else ''
        return '&'.join(filter(None, (resampled, windowed)))

    def embed(self, images: Tensor) -> tuple[Tensor, TokenState]:
        """Patch, prefix and position embedding; see :meth:`Trunk.embed`."""
        model = self.model
        patches = model.patch_embed(images.to(self.dtype))  # (B, h, w, C)
        layout = TokenLayout(
            patches.shape[1], patches.shape[2], model.num_prefix_tokens, model.has_class_token
        )
        tokens = position.embed(model, patches, self.pos_resample)
        return model.norm_pre(model.patch_drop(tokens)), TokenState(layout)

    def blocks(self) -> list[Block]:
        """The transformer blocks; see :meth:`Trunk.blocks`."""
        return [
            timm_models.SCALED_BLOCK.block(
                b,
                self.model.embed_dim,
                partial(_attend, b, side),
                post_norm=isinstance(b, ResPostBlock),
                stride=self.patch,
                prompts=True,
            )
            for b, side in zip(self.model.blocks, self.windows, strict=True)
        ]


def _attend(block: Any, side: int | None, x: Tensor, state: TokenState) -> Tensor:
    return windows.attend(lambda tokens, region: block.attn(tokens), x, state.layout, side)
