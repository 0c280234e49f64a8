"""AdaptFormer (Chen et al., NeurIPS 2022, arXiv 2205.13535).

In our words, parallel to the MLP::

    update = s * Up(Dropout(ReLU(Down(x))))

where ``x`` are the tokens that the MLP branch begins with, before its norm.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

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
from mmsigma.models.tuners.injection import InjectionContext
from mmsigma.registry import TUNERS


class AdaptFormerAdapter(nn.Module):
    """One AdaptFormer adapter: what it adds to the tokens ``(B, N, C)`` beside the MLP.

    Args:
        width: C, channels of the trunk.
        bottleneck: r, channels inside.
        scale: s.
        dropout: Probability of dropping an activated bottleneck feature, in training.
        zero_init: Whether the update starts at zero.
    """

    def __init__(
        self, width: int, bottleneck: int, scale: float, dropout: float, zero_init: bool
    ) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Linear(width, bottleneck)  # its weight starts as the release's
        nn.init.zeros_(self.down.bias)
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(bottleneck, width)
        if zero_init:
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor, layout: TokenLayout) -> Tensor:
        """The update ``(B, N, C)`` of tokens ``(B, N, C)``, each by itself."""
        return self.up(self.dropout(F.relu(self.down(tokens)))) * self.scale


@TUNERS.register_module()
@dataclass
class AdaptFormer(Tuner):
    """One adapter per block, parallel to the MLP, on its un-normed input.

    Args:
        bottleneck: r, channels inside the adapter.
        scale: s, a constant factor of the update.
        dropout: Probability of dropping an activated bottleneck feature, in training.
        zero_init: Whether Up starts at zero, so that the adapted model starts as the trunk.

    Raises:
        InvalidSettingError: A bottleneck below one, a scale of zero, or a dropout outside [0, 1).
    """

    unmergeable: ClassVar[str] = 'between Down and Up stands a ReLU, so no one linear layer is both'

    bottleneck: int = 64
    scale: float = 0.1
    dropout: float = field(default=0.1, metadata={'recorded': False})
    zero_init: bool = True

    def __post_init__(self) -> None:
        """Check the settings."""
        check_count(self, 'bottleneck')
        check_scale(self)
        check_dropout(self)
        check_flags(self, 'zero_init')

    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Put one adapter beside the MLP of every block.

        Raises:
            InvalidSettingError: A bottleneck wider than any block, or undivided blocks.
        """
        check_widest(self, 'bottleneck', context.blocks)
        for index, block in enumerate(context.blocks):
            adapter = AdaptFormerAdapter(
                block.width, self.bottleneck, self.scale, self.dropout, self.zero_init
            )
            context.put(index, 'parallel_mlp', adapter)
        return ()
