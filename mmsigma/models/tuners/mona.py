"""Mona: Multi-cognitive visual adapter (Yin et al., CVPR 2025, "5%>100%", arXiv 2408.08345).

In our words::

    u = gamma * LN(x) + gamma_x * x             the norm, scaled; starts as almost x itself
    z = Down(u);  g = z + (DW3 + DW5 + DW7)(z) / 3;  p = g + Conv1x1(g)
    update of x = Up(Dropout(GELU(p)))

Mona was made for Swin, whose tokens are all grid. Here prefix tokens (class, registers) skip the
depthwise convolutions and the 1x1 convolution, and share the rest.

``fast`` sums the three kernels, the identity among them, and runs one convolution, and puts the
second sum into the 1x1 convolution's weight; ``plain`` is the release's order of operations.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsigma.models.ops.depthwise import depthwise_conv, mixed, one_kernel
from mmsigma.models.trunks.block import DIVIDED
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.base import Count, Dropout, Flag, Form, Tuner
from mmsigma.models.tuners.injection import InjectionContext
from mmsigma.models.tuners.layers import zero
from mmsigma.registry import TUNERS

KERNEL_SIZES = (3, 5, 7)
POSITIONS = ('after_attention_residual', 'after_block')


class MonaAdapter(nn.Module):
    """One Mona adapter: the update of the tokens ``(B, N, C)`` where it sits.

    Args:
        width: C, channels of the trunk.
        bottleneck: r, channels inside.
        dropout: Probability of dropping an activated bottleneck feature, in training.
        zero_init: Whether the update starts at zero.
        form: ``fast`` or ``plain``.
    """

    def __init__(
        self, width: int, bottleneck: int, dropout: float, zero_init: bool, form: str
    ) -> None:
        super().__init__()
        self.fast = form == 'fast'
        self.norm = nn.LayerNorm(width)
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))
        self.gamma_x = nn.Parameter(torch.ones(width))
        self.down = nn.Linear(width, bottleneck)
        self.scales = nn.ModuleList(
            nn.Conv2d(bottleneck, bottleneck, k, padding=k // 2, groups=bottleneck)
            for k in KERNEL_SIZES
        )
        self.mix = nn.Conv2d(bottleneck, bottleneck, 1)
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(bottleneck, width)
        if zero_init:
            zero(self.up)

    def forward(self, tokens: Tensor, layout: TokenLayout) -> Tensor:
        """The update ``(B, N, C)`` of tokens ``(B, N, C)``."""
        z = self.down(self.norm(tokens) * self.gamma + tokens * self.gamma_x)
        head, _ = layout.split(z)
        p = torch.cat([head, self.convolve(layout.to_map(z)).transpose(1, 2)], dim=1)
        return self.up(self.dropout(F.gelu(p)))

    def convolve(self, image: Tensor) -> Tensor:
        """``p`` of a map ``z``: ``(B, r, H, W) -> (B, r, H * W)``."""
        convs = [cast(nn.Conv2d, conv) for conv in self.scales]
        if self.fast:
            third = image.new_full((len(convs), image.shape[1]), 1 / len(convs))
            g = depthwise_conv(image, *one_kernel(convs, third)).flatten(2).transpose(1, 2)
            return mixed(g, self.mix.weight.flatten(1), self.mix.bias).transpose(1, 2)
        image = image + sum(conv(image) for conv in convs) / len(convs)
        return (image + self.mix(image)).flatten(2)


@TUNERS.register_module()
@dataclass
class Mona(Tuner):
    """Two Mona adapters per block: after the attention residual and after the MLP residual.

    Args:
        bottleneck: r, channels inside the adapter.
        dropout: Probability of dropping an activated bottleneck feature, in training.
        zero_init: Whether Up starts at zero. The release's does not, so its adapted model differs
            from the trunk before the first step.
        form: ``fast`` (one convolution) or ``plain`` (the release's three); the same function.
    """

    requires = frozenset({DIVIDED})
    unmergeable = 'between Down and Up stand convolutions and a GELU'

    bottleneck: Count = 64
    dropout: Dropout = 0.1
    zero_init: Flag = False
    form: Form = 'fast'

    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Put one adapter after each residual of every block; see :meth:`Tuner.attach`."""
        self.check_widest('bottleneck', context.blocks)
        given = self.bottleneck, self.dropout, self.zero_init, self.form
        for index, block in enumerate(context.blocks):
            for position in POSITIONS:
                context.put(index, position, MonaAdapter(block.width, *given))
        return ()
