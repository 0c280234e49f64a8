"""Swin Transformer (Liu et al., arXiv 2103.14030) and Swin V2 (arXiv 2111.09883) in timm."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2, SwinTransformerV2Block
from torch import Tensor, nn

from mmsigma.errors import InvalidInputError
from mmsigma.models.trunks import swin_prompts, timm_models
from mmsigma.models.trunks.block import PROMPTS, USUAL, Block
from mmsigma.models.trunks.swin_prompts import PROMPTED_V2, Form, cosine, dot_product, merged
from mmsigma.models.trunks.tokens import TokenLayout, TokenState
from mmsigma.registry import TRUNKS


@TRUNKS.register_module()
class TimmSwin(timm_models.NormedTimmTrunk):
    """A ``timm.models.SwinTransformer`` or ``SwinTransformerV2``.

    Upstream merges patches at the start of a stage; that is the enter step of the stage's first
    block. It pads windows inside its blocks, so any grid runs. Prompts join every window.

    Upstream fits windows to the ``img_size`` it is built for, whatever the images are: a stage that
    is no larger than a window there attends without shift (the last one of most models). With
    ``model_args=dict(always_partition=True)`` all stages keep their windows and shift them.

    Args:
        model_name: E.g. ``swin_tiny_patch4_window7_224``.
        weights, mode, dtype, model_args: See :class:`NormedTimmTrunk`.
        final_norm: Whether the last block's map passes the model's final norm; earlier ones never
            do, since it is the width of the last stage.

    Raises:
        InvalidInputError: At run time, a grid that is no whole windows for Swin V2 in float16.
    """

    classes = (SwinTransformer, SwinTransformerV2)
    # Not strict: the masks of shifted windows are made for the grid of each input.
    arguments = {'strict_img_size': False}

    @classmethod
    def provided(cls, config: Mapping[str, Any]) -> frozenset[str]:
        """Swin V2 norms behind its branches, and has biases of its own; see :class:`Trunk`."""
        v2 = config['model_name'].startswith('swinv2')
        return PROMPTED_V2 if v2 else USUAL | {PROMPTS}

    @property
    def last(self) -> int:
        """Index of the last block."""
        return sum(len(stage.blocks) for stage in self.model.layers) - 1

    def embed(self, images: Tensor) -> tuple[Tensor, TokenState]:
        """Patch embedding; see :meth:`Trunk.embed`."""
        if self.dtype == torch.float16:
            self._check_windows(*images.shape[-2:])
        grid = self.model.patch_embed(images.to(self.dtype))  # (B, h, w, C)
        return grid.flatten(1, 2), TokenState(TokenLayout(grid.shape[1], grid.shape[2]))

    def blocks(self) -> list[Block]:
        """The blocks of all stages; see :meth:`Trunk.blocks`."""
        found = []
        for index, stage in enumerate(self.model.layers):
            enter = partial(merged, partial(_merge, stage.downsample), (2, 2)) if index else None
            for block in stage.blocks:
                v2 = isinstance(block, SwinTransformerV2Block)
                found.append(
                    timm_models.BLOCK.block(
                        block,
                        block.dim,
                        partial(_windows, block, cosine if v2 else dot_product),
                        post_norm=v2,
                        stage=index,
                        stride=self.patch * 2**index,
                        prompts=True,
                        enter=enter,
                    )
                )
                enter = None
        return found

    def prune_after(self, outputs: Collection[int]) -> None:
        """Freeze patch merging behind the last output, and a norm that no output passes."""
        blocks = self.blocks()
        for index, stage in enumerate(self.model.layers):
            if index > blocks[max(outputs)].stage:
                stage.downsample.requires_grad_(False)
        if self.last not in outputs:
            self.model.norm.requires_grad_(False)

    def norm(self, tokens: Tensor, index: int) -> Tensor:
        """The final norm, behind the last block only; see :meth:`Trunk.norm`."""
        return self.model.norm(tokens) if index == self.last else tokens

    def _check_windows(self, height: int, width: int) -> None:
        """Refuse images whose windows Swin V2 would pad, where float16 gives NaN.

        Its cosine attention divides by the length of the keys, zero for padding, or at least by
        1e-12, which float16 rounds to zero.
        """
        for block in self.blocks():
            if not isinstance(block.module, SwinTransformerV2Block):
                return
            window = block.module.window_size
            rows, columns = -(-height // block.stride), -(-width // block.stride)
            if rows % window[0] or columns % window[1]:
                raise InvalidInputError(
                    f'{self.name} cannot run an image of {height} x {width} pixels in float16: at '
                    f'stride {block.stride} it has {rows} x {columns} tokens, which are no whole '
                    f'windows of {window[0]} x {window[1]}, and Swin V2 divides by zero where '
                    "windows are padded. Use dtype='bfloat16', or images of whole windows."
                )


def _merge(merge: nn.Module, tokens: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Any]:
    found = merge(tokens.unflatten(1, grid))
    return found.flatten(1, 2), found.shape[1:3]


def _windows(block: Any, form: Form, x: Tensor, state: TokenState) -> Tensor:
    """Upstream's attention in windows."""
    layout = state.layout
    if layout.prefix:
        return _prompted_windows(block, form, x, layout)
    return block._attn(x.unflatten(1, (layout.height, layout.width))).flatten(1, 2)


def _prompted_windows(block: Any, form: Form, x: Tensor, layout: TokenLayout) -> Tensor:
    """The same with the prefix in every window; like upstream, it shifts first and then pads."""
    prompts, tokens = layout.split(x)
    grid = tokens.unflatten(1, (layout.height, layout.width))
    (rows, columns), (down, right) = block.window_size, block.shift_size
    grid = grid.roll((-down, -right), (1, 2))
    grid = F.pad(grid, (0, 0, 0, -layout.width % columns, 0, -layout.height % rows))
    mask = block.get_attn_mask(grid)
    grid, prompts = swin_prompts.attend(block.attn, form, grid, prompts, mask)
    grid = grid[:, : layout.height, : layout.width].roll((down, right), (1, 2))
    return torch.cat((prompts, grid.flatten(1, 2)), dim=1)
