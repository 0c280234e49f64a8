"""mmpretrain's EVA-02: plain transformers with rotary embeddings and SwiGLU."""

from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from mmsigma.models.trunks import mmpretrain_models
from mmsigma.models.trunks.base import Trunk
from mmsigma.models.trunks.block import Block
from mmsigma.models.trunks.mmpretrain_models import Arch
from mmsigma.models.trunks.tokens import TokenLayout, TokenState
from mmsigma.registry import TRUNKS

Grid = tuple[int, int]
_UPSTREAM = 'ViTEVA02'


@TRUNKS.register_module()
class MMPretrainEVA02(Trunk):
    """An ``mmpretrain.models.ViTEVA02`` (Fang et al., arXiv 2303.11331).

    Rotary embeddings follow the grid of each image, as upstream's do; they are computed, never
    read from the weights.

    Args:
        arch: A name of mmpretrain's ``arch_zoo`` (``'tiny'``, ``'small'``, ``'base'``,
            ``'large'``), a dict with ``embed_dims``, ``num_layers``, ``num_heads``,
            ``feedforward_channels``, or the path of an mmpretrain config (``.py``) whose
            ``model.backbone`` is built.
        weights: A local mmpretrain checkpoint (with or without ``backbone.`` before its keys), or
            ``'random'``.
        mode, dtype: See :class:`~mmsigma.models.trunks.base.Trunk`.
        final_norm: Whether output maps pass the model's final norm; None: as upstream or the config
            has it (the released models norm after pooling instead: False).
        model_args: Further arguments, e.g. ``dict(img_size=336, patch_size=14, sub_ln=True)``.

    Raises:
        InvalidSettingError: mmpretrain refuses ``arch`` or ``model_args``, or the config builds
            another backbone.
        WeightsError: The weights cannot be read or loaded.
    """

    builds_without_values = False
    compiles = False  # rotary tables are looked up in the blocks, by grid

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
        # Upstream's module keeps the last grid's tables and replaces them in the forward pass.
        rotary = _Rotary(model.rope)
        del model.rope
        for layer in model.layers:
            layer.attn.rope = rotary
        mmpretrain_models.load(model, state, weights, ('ln2.',), model._prepare_pos_embed)
        name = mmpretrain_models.label(model, settings)
        super().__init__(model, name, state is not None, mode, dtype)
        self.final_norm = normed
        if built and not normed:
            del model.ln1
        self.patch = model.patch_embed.projection.stride[0]
        self.has_class_token = model.cls_token is not None

    def embed(self, images: Tensor) -> tuple[Tensor, TokenState]:
        """Patch, class token and position embedding; see :meth:`Trunk.embed`."""
        model = self.model
        tokens, (height, width) = model.patch_embed(images.to(self.dtype))
        if model.cls_token is not None:
            tokens = torch.cat((model.cls_token.expand(len(tokens), -1, -1), tokens), dim=1)
        tokens = tokens + model.resize_pos_embed(
            model.pos_embed,
            model.patch_resolution,
            (height, width),
            mode=model.interpolate_mode,
            num_extra_tokens=model.num_extra_tokens,
        )
        layout = TokenLayout(height, width, model.num_extra_tokens, self.has_class_token)
        return model.pre_norm(model.drop_after_pos(tokens)), TokenState(layout)

    def blocks(self) -> list[Block]:
        """The encoder layers; see :meth:`Trunk.blocks`."""
        width = self.model.embed_dims
        return [
            Block(
                b,
                width,
                partial(_attention, b),
                partial(_mlp, b),
                stride=self.patch,
                norms=(b.norm1, b.norm2),
            )
            for b in self.model.layers
        ]

    def norm(self, tokens: Tensor, index: int) -> Tensor:
        """The final norm; see :meth:`Trunk.norm`."""
        return self.model.ln1(tokens) if self.final_norm else tokens


class _Rotary(nn.Module):
    """Upstream's rotary embedding, one module for each grid instead of one that changes itself.

    Args:
        rope: mmpretrain's ``RotaryEmbeddingFast``.
    """

    def __init__(self, rope: Any) -> None:
        super().__init__()
        self.dims = 2 * rope.half_dim
        self.theta = rope.theta

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Queries or keys ``(B, heads, h * w, dims)`` of a grid ``(h, w)``, rotated."""
        return _rotary(self.dims, tuple(grid), self.theta, x.device)(x, grid)


@lru_cache(maxsize=16)
def _rotary(dims: int, grid: Grid, theta: float, device: torch.device) -> Any:
    from mmpretrain.models.utils import RotaryEmbeddingFast

    with torch.inference_mode(False):  # it is kept, so it must serve training too
        return RotaryEmbeddingFast(dims, grid, theta).to(device)


def _attention(layer: Any, x: Tensor, state: TokenState) -> tuple[Tensor, Tensor, TokenState]:
    branch = layer.attn(layer.norm1(x), (state.layout.height, state.layout.width))
    return x, layer.drop_path(branch), state


def _mlp(layer: Any, x: Tensor, state: TokenState) -> Tensor:
    return layer.drop_path(layer.mlp(layer.norm2(x)))
