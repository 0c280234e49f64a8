"""mmpretrain's Swin (Liu et al., arXiv 2103.14030) and Swin V2 (arXiv 2111.09883)."""

import re
from collections.abc import Collection
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from mmsigma.errors import InvalidInputError
from mmsigma.models.trunks import swin_prompts
from mmsigma.models.trunks.block import CALLED, DIVIDED, PRE_NORM, PROMPTS, Block, layer
from mmsigma.models.trunks.mmpretrain_models import (
    Arch,
    Convert,
    MMPretrainTrunk,
    read,
    resize_table,
    settings,
)
from mmsigma.models.trunks.residual_steps import Body, Names
from mmsigma.models.trunks.swin_prompts import PROMPTED_V2, Form, cosine, dot_product, merged
from mmsigma.models.trunks.tokens import TokenLayout, TokenState
from mmsigma.registry import TRUNKS

_TABLE = 'relative_position_bias_table'
_BLOCK = Names(mlp='ffn')


@TRUNKS.register_module()
class MMPretrainSwin(MMPretrainTrunk):
    """An ``mmpretrain.models.SwinTransformer``.

    Upstream merges patches between stages; that is the enter step of a stage's first block.
    Prompts join every window, unless patches overlap where they merge.
    Upstream pads windows inside its blocks, so any grid runs. Maps smaller than a window are padded
    and every second block shifts its windows, as upstream does it for detection and segmentation;
    its classifiers, built with ``model_args=dict(pad_small_map=False)``, do not shift windows where
    a map is no larger than one, and cannot take smaller maps.

    Args:
        arch, weights, mode, dtype, model_args: See :class:`MMPretrainTrunk`.
        final_norm: Whether the map of a stage's last block passes the norm that the weights have
            for this stage: classifiers for the last one only, detectors for all.
    """

    upstream = 'SwinTransformer'
    left_out = ('mask_token',)
    provides = frozenset({DIVIDED, PRE_NORM, PROMPTS, CALLED, *layer('attn.w_msa.qkv')})
    _post_norm = False

    def __init__(
        self,
        arch: Arch,
        weights: str,
        mode: str = 'eval',
        dtype: str = 'float32',
        final_norm: bool = True,
        model_args: dict[str, Any] | None = None,
    ) -> None:
        arguments = {'pad_small_map': True, **settings(self.upstream, arch, model_args)}
        state = read(self.upstream, weights)
        built = arguments.get('arch')
        last = len(built.get('depths', ()) if isinstance(built, dict) else range(4)) - 1
        if state is not None:  # the norm had no number before upstream's version 2
            state = {re.sub(r'^norm\.', f'norm{last}.', k): v for k, v in state.items()}
        normed = [i for i in range(last + 1) if state and f'norm{i}.weight' in state]
        if not normed and (final_norm or state is None):
            normed = [last]
        self._build(arguments, weights, state, mode, dtype, out_indices=normed)
        self._keep_norms(normed if final_norm else [])

    def converts(self, model: Any) -> list[Convert]:
        """Tables and masks of windows, too; see :meth:`MMPretrainTrunk.converts`."""
        absolute = [model._prepare_abs_pos_embed] if model.use_abs_pos_embed else []
        return [partial(_convert, model), *absolute]

    def _keep_norms(self, stages: Collection[int]) -> None:
        for stage in self.model.out_indices:
            if stage not in stages:
                delattr(self.model, f'norm{stage}')
        self.model.out_indices = list(stages)

    def pad(self, images: Tensor) -> Tensor:
        """See :meth:`Trunk.pad`.

        Raises:
            InvalidInputError: An image smaller than one token, or than upstream takes when it is
                built with ``pad_small_map=False``.
        """
        images = super().pad(images)
        for block in self.blocks():
            attention: Any = block.module.attn
            side = -(-min(images.shape[-2:]) // block.stride)
            if not attention.pad_small_map and side < attention.window_size:
                raise InvalidInputError(
                    f'An image of {images.shape[-2]} x {images.shape[-1]} pixels makes maps of '
                    f'{self.name} smaller than its windows, which pad_small_map=False forbids. '
                    f'Leave that out, or give images of at least '
                    f'{attention.window_size * block.stride} pixels.'
                )
        return images

    def embed(self, images: Tensor) -> tuple[Tensor, TokenState]:
        """Patch embedding; see :meth:`Trunk.embed`."""
        model = self.model
        tokens, (height, width) = model.patch_embed(images.to(self.dtype))
        if model.use_abs_pos_embed:
            from mmpretrain.models.utils import resize_pos_embed

            tokens = tokens + resize_pos_embed(
                model.absolute_pos_embed,
                model.patch_resolution,
                (height, width),
                model.interpolate_mode,
                model.num_extra_tokens,
            )
        return model.drop_after_pos(tokens), TokenState(TokenLayout(height, width))

    def blocks(self) -> list[Block]:
        """The blocks of all stages; see :meth:`Trunk.blocks`."""
        found = []
        stride = self.patch
        extra = None
        samplers = [merge.sampler for merge in self._merges() if merge is not None]
        prompts = all(sampler.kernel_size == sampler.stride for sampler in samplers)
        for index, (stage, merge) in enumerate(zip(self.model.stages, self._merges(), strict=True)):
            if merge is not None:
                stride *= merge.sampler.stride[0]
            for block in stage.blocks:
                found.append(
                    _BLOCK.block(
                        block,
                        block.attn.w_msa.embed_dims,
                        self._body(block.attn),
                        post_norm=self._post_norm,
                        stage=index,
                        stride=stride,
                        prompts=prompts,
                        enter=partial(_enter, extra, merge) if extra or merge else None,
                    )
                )
                merge = None
                extra = block.norm3 if getattr(block, 'extra_norm', False) else None
        return found

    def prune_after(self, outputs: Collection[int]) -> None:
        """Drop norms that no output passes; merging behind the last output trains no more."""
        blocks = self.blocks()
        ends = [i for i in outputs if self._ends(blocks, i)]
        stages = {blocks[i].stage for i in ends}
        self._keep_norms([stage for stage in self.model.out_indices if stage in stages])
        for merge in self._merges()[blocks[max(outputs)].stage + 1 :]:
            merge.requires_grad_(False)

    def norm(self, tokens: Tensor, index: int) -> Tensor:
        """What upstream has behind the last block of a stage; see :meth:`Trunk.norm`."""
        blocks = self.blocks()
        block, module = blocks[index], cast(Any, blocks[index].module)
        if getattr(module, 'extra_norm', False):
            tokens = module.norm3(tokens)
        if block.stage in self.model.out_indices and self._ends(blocks, index):
            tokens = getattr(self.model, f'norm{block.stage}')(tokens)
        return tokens

    @staticmethod
    def _ends(blocks: list[Block], index: int) -> bool:
        """Whether a block is the last of its stage."""
        return index == len(blocks) - 1 or blocks[index + 1].stage != blocks[index].stage

    def _merges(self) -> list[Any]:
        """What merges patches in front of each stage, or None."""
        return [None, *(stage.downsample for stage in self.model.stages[:-1])]

    def _body(self, attention: Any) -> Body:
        return partial(_windows, attention)


def _convert(model: Any, state: dict[str, Tensor], prefix: str) -> None:
    """Weights of older versions, and tables of other window sizes."""
    for key in [key for key in state if key.endswith('attn_mask')]:
        del state[key]
    for key, own in model.state_dict().items():
        if not key.endswith(_TABLE) or key not in state or len(state[key]) == len(own):
            continue
        window = model.get_submodule(key.removesuffix(f'.{_TABLE}')).window_size
        side = (round(len(state[key]) ** 0.5) + 1) // 2
        state[key] = resize_table(state[key], (side, side), window)


def _enter(
    extra: nn.Module | None, merge: Any, x: Tensor, state: TokenState
) -> tuple[Tensor, TokenState]:
    """Tokens as they come to a block: normed where the one before asks it, merged."""
    if extra is not None:
        x = extra(x)
    return (x, state) if merge is None else merged(merge, merge.sampler.kernel_size, x, state)


def _prompted_windows(attention: Any, form: Form, x: Tensor, layout: TokenLayout) -> Tensor:
    """Attention with the prefix in every window; like upstream, it pads first and then shifts."""
    prompts, tokens = layout.split(x)
    grid = tokens.unflatten(1, (layout.height, layout.width))
    side, shift = attention.window_size, attention.shift_size
    if min(layout.height, layout.width) == side and not attention.pad_small_map:
        shift = 0
    grid = F.pad(grid, (0, 0, 0, -layout.width % side, 0, -layout.height % side))
    mask = attention.get_attn_mask(grid.shape[1:3], side, shift, grid.device)
    grid = grid.roll((-shift, -shift), (1, 2))
    grid, prompts = swin_prompts.attend(attention.w_msa, form, grid, prompts, mask)
    grid = grid.roll((shift, shift), (1, 2))[:, : layout.height, : layout.width]
    return attention.drop(torch.cat((prompts, grid.flatten(1, 2)), dim=1))


def _windows(attention: Any, x: Tensor, state: TokenState) -> Tensor:
    if state.layout.prefix:
        return _prompted_windows(attention, dot_product, x, state.layout)
    grid = (state.layout.height, state.layout.width)
    if x.dtype not in (torch.bfloat16, torch.float16):
        return attention(x, grid)
    # Upstream's masks of shifted windows are float32: scores become so, and then meet values of
    # half precision in a product that only autocast knows.
    with torch.autocast(x.device.type, x.dtype):
        return attention(x, grid)


def _cosine_windows(attention: Any, x: Tensor, state: TokenState) -> Tensor:
    if state.layout.prefix:
        return _prompted_windows(attention, cosine, x, state.layout)
    if x.dtype != torch.float16:
        return _windows(attention, x, state)
    # Where a window is padded, keys are zero, and what upstream adds to their norm before dividing
    # is zero in float16.
    tensors = {**dict(attention.named_parameters()), **dict(attention.named_buffers())}
    exact = {k: v.float() for k, v in tensors.items() if v.is_floating_point()}
    grid = (state.layout.height, state.layout.width)
    with torch.autocast(x.device.type, enabled=False):
        return functional_call(attention, exact, (x.float(), grid)).to(x.dtype)


@TRUNKS.register_module()
class MMPretrainSwinV2(MMPretrainSwin):
    """An ``mmpretrain.models.SwinTransformerV2``; for the rest see :class:`MMPretrainSwin`.

    The norm that huge and giant models have behind every sixth block is part of the enter step of
    the next block, and of the map where that block is an output.
    """

    upstream = 'SwinTransformerV2'
    provides = PROMPTED_V2
    _post_norm = True

    def _merges(self) -> list[Any]:
        return [stage.downsample for stage in self.model.stages]

    def _body(self, attention: Any) -> Body:
        return partial(_cosine_windows, attention)
