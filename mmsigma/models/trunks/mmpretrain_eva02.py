"""mmpretrain's EVA-02: plain transformers with rotary embeddings and SwiGLU."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from mmsigma.models.trunks.mmpretrain_models import Convert, PlainMMPretrainTrunk
from mmsigma.models.trunks.residual_steps import Names
from mmsigma.models.trunks.tokens import TokenState
from mmsigma.registry import TRUNKS

Grid = tuple[int, int]


@TRUNKS.register_module()
class MMPretrainEVA02(PlainMMPretrainTrunk):
    """An ``mmpretrain.models.ViTEVA02`` (Fang et al., arXiv 2303.11331).

    Rotary embeddings follow the grid of each image, as upstream's do; they are computed, never
    read from the weights.

    A dict as ``arch`` has ``embed_dims``, ``num_layers``, ``num_heads``, ``feedforward_channels``;
    released models take ``model_args=dict(patch_size=14, sub_ln=True)`` and norm after pooling,
    which is ``final_norm=False``.
    """

    compiles = False  # rotary tables are looked up in the blocks, by grid

    upstream = 'ViTEVA02'
    names = Names(drop_paths=('drop_path', 'drop_path'))

    def converts(self, model: Any) -> list[Convert]:
        """Weights have no rotary tables; see :meth:`MMPretrainTrunk.converts`."""
        # Upstream's module keeps the last grid's tables and replaces them in the forward pass.
        rotary = _Rotary(model.rope)
        del model.rope
        for layer in model.layers:
            layer.attn.rope = rotary
        return super().converts(model)

    @staticmethod
    def attend(layer: Any, index: int, x: Tensor, state: TokenState) -> Tensor:
        """Attention of a layer, which rotates by the grid; see :class:`PlainMMPretrainTrunk`."""
        return layer.attn(x, (state.layout.height, state.layout.width))


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
