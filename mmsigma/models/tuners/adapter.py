"""Adapter (Houlsby et al., ICML 2019, arXiv 1902.00751).

In our words::

    update of h = Up(Dropout(GELU(Down(h))))

where ``h`` is what attention or MLP returns, before it is added to the residual.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from mmsigma.models.trunks.block import DIVIDED
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.base import Counts, Dropout, Flag, Tuner
from mmsigma.models.tuners.injection import InjectionContext
from mmsigma.models.tuners.layers import Bottleneck
from mmsigma.registry import TUNERS

POSITIONS = ('after_attention', 'after_mlp')


class BottleneckAdapter(Bottleneck):
    """One adapter."""

    def inside(self, tokens: Tensor, layout: TokenLayout) -> Tensor:
        """Each token by itself; see :class:`Bottleneck`."""
        return F.gelu(self.down(tokens))


@TUNERS.register_module()
@dataclass
class Adapter(Tuner):
    """Two adapters per block: on what attention returns and on what the MLP returns.

    Args:
        bottleneck: r, channels inside the adapter: a number, or one per stage.
        dropout: Probability of dropping an activated bottleneck feature, in training.
        zero_init: Whether Up starts at zero, so that the adapted model starts as the trunk.
    """

    requires = frozenset({DIVIDED})
    unmergeable = 'between Down and Up stands a GELU, so no one linear layer is both'

    bottleneck: Counts = 64
    dropout: Dropout = 0.1
    zero_init: Flag = True

    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Put one adapter behind each branch of every block; see :meth:`Tuner.attach`."""
        inner = self.per_stage('bottleneck', context.blocks)
        for index, block in enumerate(context.blocks):
            for position in POSITIONS:
                adapter = BottleneckAdapter(block.width, inner[index], self.dropout, self.zero_init)
                context.put(index, position, adapter)
        return ()
