"""Convpass (Jie and Deng, arXiv 2207.07039): convolutional bypasses of attention and MLP.

In our words, from the tokens ``x`` as the branch's own norm gives them::

    z = qGELU(Down(x));  c = qGELU(Conv3x3(z));  update = s * Up(Dropout(c))

with qGELU(z) = z * sigmoid(1.702 z). The convolution is dense. The class token, and every register,
is convolved alone, as an image of one pixel: only the middle of the kernel meets it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.base import (
    Tuner,
    check_count,
    check_dropout,
    check_flags,
    check_scale,
    check_widest,
)
from mmsigma.models.tuners.injection import InjectionContext, ModuleReference
from mmsigma.registry import TUNERS

POSITIONS = ('parallel_attention', 'parallel_mlp')


def quick_gelu(x: Tensor) -> Tensor:
    """``x * sigmoid(1.702 x)``."""
    return x * torch.sigmoid(1.702 * x)


class ConvpassAdapter(nn.Module):
    """One bypass: what it adds to the tokens ``(B, N, C)`` beside a branch.

    Args:
        width: C, channels of the trunk.
        bottleneck: r, channels inside.
        scale: s.
        dropout: Probability of dropping an activated bottleneck feature, in training.
        zero_init: Whether the update starts at zero.
        norm: The trunk's norm that the branch begins with.
    """

    def __init__(
        self,
        width: int,
        bottleneck: int,
        scale: float,
        dropout: float,
        zero_init: bool,
        norm: ModuleReference,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.scale = scale
        self.down = nn.Linear(width, bottleneck)
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.down.bias)
        self.conv = nn.Conv2d(bottleneck, bottleneck, 3, padding=1)
        nn.init.dirac_(self.conv.weight)  # the convolution starts as the identity
        nn.init.zeros_(cast(Tensor, self.conv.bias))
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(bottleneck, width)
        if zero_init:
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor, layout: TokenLayout) -> Tensor:
        """The update ``(B, N, C)`` of tokens ``(B, N, C)``."""
        z = quick_gelu(self.down(self.norm(tokens)))
        grid = self.conv(layout.to_map(z)).flatten(2).transpose(1, 2)
        if layout.prefix:
            head = F.linear(layout.split(z)[0], self.conv.weight[:, :, 1, 1], self.conv.bias)
            grid = torch.cat([head, grid], dim=1)
        return self.up(self.dropout(quick_gelu(grid))) * self.scale


@TUNERS.register_module()
@dataclass
class Convpass(Tuner):
    """Two bypasses per block, parallel to attention and to the MLP, from the norms' outputs.

    Args:
        bottleneck: r, channels inside the adapter.
        scale: s, a constant factor of the update. The authors choose it for each dataset.
        dropout: Probability of dropping an activated bottleneck feature, in training.
        zero_init: Whether Up starts at zero, so that the adapted model starts as the trunk.

    Raises:
        InvalidSettingError: A bottleneck below one, a scale of zero, or a dropout outside [0, 1).
    """

    unmergeable: ClassVar[str] = 'before and behind its convolution stands a GELU'

    bottleneck: int = 8
    scale: float = 1.0
    dropout: float = field(default=0.1, metadata={'recorded': False})
    zero_init: bool = True

    def __post_init__(self) -> None:
        """Check the settings."""
        check_count(self, 'bottleneck')
        check_scale(self)
        check_dropout(self)
        check_flags(self, 'zero_init')

    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Put one bypass beside each branch of every block.

        Raises:
            InvalidSettingError: A bottleneck wider than any block, or blocks that do not begin
                their branches with a norm.
        """
        check_widest(self, 'bottleneck', context.blocks)
        for index, block in enumerate(context.blocks):
            for position in POSITIONS:
                adapter = ConvpassAdapter(
                    block.width,
                    self.bottleneck,
                    self.scale,
                    self.dropout,
                    self.zero_init,
                    context.norm(index, position),
                )
                context.put(index, position, adapter)
        return ()
