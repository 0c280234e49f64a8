"""Convpass (Jie and Deng, arXiv 2207.07039): convolutional bypasses of attention and MLP.

In our words, from the tokens ``x`` as the branch's own norm gives them::

    z = qGELU(Down(x));  c = qGELU(Conv3x3(z));  update = s * Up(Dropout(c))

with qGELU(z) = z * sigmoid(1.702 z). The convolution is dense. The class token, and every register,
is convolved alone, as an image of one pixel: only the middle of the kernel meets it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsigma.models.trunks.block import DIVIDED, PRE_NORM
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.base import Count, Dropout, Factor, Flag, Tuner
from mmsigma.models.tuners.injection import InjectionContext, ModuleReference
from mmsigma.models.tuners.layers import Bottleneck, quick_gelu
from mmsigma.registry import TUNERS

POSITIONS = ('parallel_attention', 'parallel_mlp')


class ConvpassAdapter(Bottleneck):
    """One bypass: what it adds to the tokens beside a branch.

    Args:
        norm: The trunk's norm that the branch begins with.
        given: See :class:`Bottleneck`.
    """

    def __init__(self, norm: ModuleReference, *given: Any) -> None:
        super().__init__(*given)
        self.norm = norm

    def build(self, bottleneck: int) -> None:
        """The convolution, which starts as the identity; see :class:`Bottleneck`."""
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.down.bias)
        self.conv = nn.Conv2d(bottleneck, bottleneck, 3, padding=1)
        nn.init.dirac_(self.conv.weight)
        nn.init.zeros_(cast(Tensor, self.conv.bias))

    def inside(self, tokens: Tensor, layout: TokenLayout) -> Tensor:
        """Convolved features; see :class:`Bottleneck`."""
        z = quick_gelu(self.down(self.norm(tokens)))
        grid = self.conv(layout.to_map(z)).flatten(2).transpose(1, 2)
        if layout.prefix:
            head = F.linear(layout.split(z)[0], self.conv.weight[:, :, 1, 1], self.conv.bias)
            grid = torch.cat([head, grid], dim=1)
        return quick_gelu(grid)


@TUNERS.register_module()
@dataclass
class Convpass(Tuner):
    """Two bypasses per block, parallel to attention and to the MLP, from the norms' outputs.

    Args:
        bottleneck: r, channels inside the adapter.
        scale: s, a constant factor of the update. The authors choose it for each dataset.
        dropout: Probability of dropping an activated bottleneck feature, in training.
        zero_init: Whether Up starts at zero, so that the adapted model starts as the trunk.
    """

    requires = frozenset({DIVIDED, PRE_NORM})
    unmergeable = 'before and behind its convolution stands a GELU'

    bottleneck: Count = 8
    scale: Factor = 1.0
    dropout: Dropout = 0.1
    zero_init: Flag = True

    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Put one bypass beside each branch of every block; see :meth:`Tuner.attach`."""
        self.check_widest('bottleneck', context.blocks)
        given = self.bottleneck, self.dropout, self.zero_init, self.scale
        for index, block in enumerate(context.blocks):
            for position in POSITIONS:
                adapter = ConvpassAdapter(context.norm(index, position), block.width, *given)
                context.put(index, position, adapter)
        return ()
