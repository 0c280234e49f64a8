"""AdaptFormer (Chen et al., NeurIPS 2022, arXiv 2205.13535).

In our words, parallel to the MLP::

    update = s * Up(Dropout(ReLU(Down(x))))

where ``x`` are the tokens that the MLP branch begins with, before its norm.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from mmsigma.models.trunks.block import DIVIDED
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.base import Count, Dropout, Factor, Flag, Tuner
from mmsigma.models.tuners.injection import InjectionContext
from mmsigma.models.tuners.layers import Bottleneck
from mmsigma.registry import TUNERS


class AdaptFormerAdapter(Bottleneck):
    """One AdaptFormer adapter: what it adds to the tokens beside the MLP."""

    def build(self, bottleneck: int) -> None:
        """Down's weight starts as the release's; see :class:`Bottleneck`."""
        nn.init.zeros_(self.down.bias)

    def inside(self, tokens: Tensor, layout: TokenLayout) -> Tensor:
        """Each token by itself; see :class:`Bottleneck`."""
        return F.relu(self.down(tokens))


@TUNERS.register_module()
@dataclass
class AdaptFormer(Tuner):
    """One adapter per block, parallel to the MLP, on its un-normed input.

    Args:
        bottleneck: r, channels inside the adapter.
        scale: s, a constant factor of the update.
        dropout: Probability of dropping an activated bottleneck feature, in training.
        zero_init: Whether Up starts at zero, so that the adapted model starts as the trunk.
    """

    requires = frozenset({DIVIDED})
    unmergeable = 'between Down and Up stands a ReLU, so no one linear layer is both'

    bottleneck: Count = 64
    scale: Factor = 0.1
    dropout: Dropout = 0.1
    zero_init: Flag = True

    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Put one adapter beside the MLP of every block; see :meth:`Tuner.attach`."""
        self.check_widest('bottleneck', context.blocks)
        for index, block in enumerate(context.blocks):
            given = self.bottleneck, self.dropout, self.zero_init, self.scale
            context.put(index, 'parallel_mlp', AdaptFormerAdapter(block.width, *given))
        return ()
