"""mmpretrain's VisionTransformer as a trunk: DINOv2, MAE, DeiT, CLIP, ..."""

from functools import partial
from typing import Any

from torch import Tensor

from mmsigma.models.trunks.block import PROMPTS, USUAL, Block
from mmsigma.models.trunks.mmpretrain_models import BLOCK, PlainMMPretrainTrunk
from mmsigma.models.trunks.tokens import TokenState
from mmsigma.registry import TRUNKS


@TRUNKS.register_module()
class MMPretrainViT(PlainMMPretrainTrunk):
    """An ``mmpretrain.models.VisionTransformer`` (Dosovitskiy et al., arXiv 2010.11929).

    A dict as ``arch`` has ``embed_dims``, ``num_layers``, ``num_heads``, ``feedforward_channels``.
    """

    upstream = 'VisionTransformer'
    provides = USUAL | {PROMPTS}

    def blocks(self) -> list[Block]:
        """The encoder layers; see :meth:`Trunk.blocks`."""
        width = self.model.embed_dims
        return [
            BLOCK.block(b, width, partial(_attend, b), stride=self.patch, prompts=True)
            for b in self.model.layers
        ]


def _attend(layer: Any, x: Tensor, state: TokenState) -> Tensor:
    return layer.attn(x)
