"""Plain vision transformers of timm: DINOv2, SigLIP2, CLIP, MAE, DeiT III, AIMv2 and kin."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from timm.models.vision_transformer import Block as UpstreamBlock
from timm.models.vision_transformer import ResPostBlock, VisionTransformer
from torch import Tensor, nn

from mmsigma.models.trunks import timm_models, windows
from mmsigma.models.trunks.base import Trunk
from mmsigma.models.trunks.block import AttentionStep, Block, MLPStep
from mmsigma.models.trunks.tokens import TokenLayout, TokenState
from mmsigma.models.trunks.weights import position
from mmsigma.registry import TRUNKS


@TRUNKS.register_module()
class TimmViT(Trunk):
    """A ``timm.models.VisionTransformer`` with timm's standard blocks, pre-norm or post-norm.

    Args:
        model_name: timm's name, e.g. ``vit_small_patch14_dinov2`` (``..._reg4_dinov2``: registers).
        weights: A local file, ``'hub'`` to download timm's pretrained weights, or ``'random'``.
        mode, dtype: See :class:`~mmsigma.models.trunks.base.Trunk`.
        final_norm: Whether output maps pass the model's final norm.
        model_args: Further arguments of the timm model, e.g. ``dict(img_size=224)``.
        pos_resample: How the position embedding is brought to another grid, of weights and of
            images: ``bicubic-antialias`` (default, timm's own) or ``bicubic`` (as the release of
            DINOv2 does; without registers).
        window: Side of attention windows in tokens, or None (default): every block attends to the
            whole image. See :mod:`mmsigma.models.trunks.windows`.
        global_blocks: With ``window``, the blocks that attend to the whole image nevertheless:
            how many, spread evenly over the model up to its last block (4 by default), or a list
            of indices, negative from the end.

    Raises:
        UnknownNameError: timm has no such model, or there is no such ``pos_resample``.
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
        pos_resample: str = position.TIMM,
        window: int | None = None,
        global_blocks: int | Sequence[int] | None = None,
    ) -> None:
        position.check(pos_resample)
        # dynamic_img_size resamples the position embedding to the grid of each input.
        model = timm_models.create(model_name, model_args, dynamic_img_size=True)
        known = (VisionTransformer, UpstreamBlock, ResPostBlock)
        timm_models.require(model, model_name, 'TimmViT', known, getattr(model, 'blocks', ()))
        sides, windowed = windows.plan(window, global_blocks, len(model.blocks))
        timm_models.cut_head(model)
        loaded = timm_models.load(
            model, model_name, weights, model_args, timm_models.HEAD, pos_resample
        )
        # Another method gives other features, so a checkpoint's record must tell them apart.
        resampled = '' if pos_resample == position.TIMM else f'pos_resample={pos_resample}'
        options = '&'.join(filter(None, (resampled, windowed)))
        name = f'timm/{model_name}' + (f'?{options}' if options else '')
        super().__init__(model, name, loaded, mode, dtype)
        self.pos_resample = pos_resample
        self.windows = sides
        if not final_norm:
            self.model.norm = nn.Identity()
        self.patch = model.patch_embed.patch_size[0]
        self.has_class_token = model.has_class_token

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
        width = self.model.embed_dim
        return [
            Block(b, width, *_steps(b, side), stride=self.patch, norms=_norms(b), prompts=True)
            for b, side in zip(self.model.blocks, self.windows, strict=True)
        ]

    def norm(self, tokens: Tensor, index: int) -> Tensor:
        """The final norm; see :meth:`Trunk.norm`."""
        return self.model.norm(tokens)


def _steps(block: Any, side: int | None) -> tuple[AttentionStep, MLPStep]:
    if isinstance(block, ResPostBlock):
        return partial(_post_attention, block, side), partial(_post_mlp, block)
    return partial(_attention, block, side), partial(_mlp, block)


def _norms(block: Any) -> tuple[nn.Module, nn.Module] | None:
    return None if isinstance(block, ResPostBlock) else (block.norm1, block.norm2)


def _attend(block: Any, side: int | None, x: Tensor, state: TokenState) -> Tensor:
    return windows.attend(lambda tokens, region: block.attn(tokens), x, state.layout, side)


def _attention(
    block: Any, side: int | None, x: Tensor, state: TokenState
) -> tuple[Tensor, Tensor, TokenState]:
    branch = _attend(block, side, block.norm1(x), state)
    return x, block.drop_path1(block.ls1(branch)), state


def _mlp(block: Any, x: Tensor, state: TokenState) -> Tensor:
    return block.drop_path2(block.ls2(block.mlp(block.norm2(x))))


def _post_attention(
    block: Any, side: int | None, x: Tensor, state: TokenState
) -> tuple[Tensor, Tensor, TokenState]:
    return x, block.drop_path1(block.norm1(_attend(block, side, x, state))), state


def _post_mlp(block: Any, x: Tensor, state: TokenState) -> Tensor:
    return block.drop_path2(block.norm2(block.mlp(x)))
