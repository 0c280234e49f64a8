"""Adapter (Houlsby et al., ICML 2019, arXiv 1902.00751).

In our words::

    update of h = Up(Dropout(GELU(Down(h))))

where ``h`` is what attention or MLP returns, before it is added to the residual.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.base import (
    Tuner,
    check_counts,
    check_dropout,
    check_flags,
    per_stage,
)
from mmsigma.models.tuners.injection import InjectionContext
from mmsigma.registry import TUNERS

POSITIONS = ('after_attention', 'after_mlp')


class BottleneckAdapter(nn.Module):
    """One adapter: the update of the tokens ``(B, N, C)`` where it sits.

    Args:
        width: C, channels of the trunk.
        bottleneck: r, channels inside.
        dropout: Probability of dropping an activated bottleneck feature, in training.
        zero_init: Whether the update starts at zero.
    """

    def __init__(self, width: int, bottleneck: int, dropout: float, zero_init: bool) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(bottleneck, width)
        if zero_init:
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor, layout: TokenLayout) -> Tensor:
        """The update ``(B, N, C)`` of tokens ``(B, N, C)``, each by itself."""
        return self.up(self.dropout(F.gelu(self.down(tokens))))


@TUNERS.register_module()
@dataclass
class Adapter(Tuner):
    """Two adapters per block: on what attention returns and on what the MLP returns.

    Args:
        bottleneck: r, channels inside the adapter: a number, or one per stage.
        dropout: Probability of dropping an activated bottleneck feature, in training.
        zero_init: Whether Up starts at zero, so that the adapted model starts as the trunk.

    Raises:
        InvalidSettingError: A bottleneck below one, or a dropout outside [0, 1).
    """

    unmergeable: ClassVar[str] = 'between Down and Up stands a GELU, so no one linear layer is both'

    bottleneck: int | Sequence[int] = 64
    dropout: float = field(default=0.1, metadata={'recorded': False})
    zero_init: bool = True

    def __post_init__(self) -> None:
        """Check the settings."""
        check_counts(self, 'bottleneck')
        check_dropout(self)
        check_flags(self, 'zero_init')

    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Put one adapter behind each branch of every block.

        Raises:
            InvalidSettingError: A bottleneck wider than any block, one for each of another number
                of stages, or undivided blocks.
        """
        inner = per_stage(self, 'bottleneck', context.blocks)
        for index, block in enumerate(context.blocks):
            for position in POSITIONS:
                adapter = BottleneckAdapter(block.width, inner[index], self.dropout, self.zero_init)
                context.put(index, position, adapter)
        return ()
