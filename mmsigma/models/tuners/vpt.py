"""VPT: visual prompt tuning (Jia et al., ECCV 2022, arXiv 2203.12119).

Learned tokens stand between the trunk's own prefix tokens and the image's. *Shallow*: p prompts
join before the first block and pass through all. *Deep*: every block gets p fresh ones, which
replace what the block before made of its own. They take part in attention and leave the maps as
they were laid out: no map shows them.

In Swin they join every window, and the mean over windows goes on; where a stage begins, shallow
prompts merge with copies of themselves, and deep ones are fresh, behind the merging. The paper says
little of Swin; what is the release's as remembered, unverified, and what is this project's reading
stands in :mod:`mmsigma.models.trunks.swin_prompts`. Prompts of all blocks are drawn from the same
range.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmsigma.models.trunks.block import PROMPTS
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.base import Count, Dropout, Flag, Tuner
from mmsigma.models.tuners.injection import InjectionContext
from mmsigma.registry import TUNERS


class Prompts(nn.Module):
    """p learned tokens for one block.

    Args:
        count: p.
        width: C, channels of the block.
        bound: The largest initial value.
        replaced: How many prompts the block before left, which these replace; 0 for none.
        dropout: Probability of dropping a channel of a prompt, in training.
    """

    def __init__(self, count: int, width: int, bound: float, replaced: int, dropout: float) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(1, count, width).uniform_(-bound, bound))
        self.dropout = nn.Dropout(dropout)
        self.replaced = replaced

    def forward(self, tokens: Tensor, layout: TokenLayout) -> tuple[Tensor, TokenLayout]:
        """Tokens ``(B, P + hw, C)`` with the prompts as the last of the prefix."""
        prefix, grid = layout.split(tokens)
        prompts = self.dropout(self.tokens).to(tokens.dtype).expand(len(tokens), -1, -1)
        prefix = prefix[:, : layout.prefix - self.replaced]
        count = prefix.shape[1] + prompts.shape[1]
        behind = TokenLayout(layout.height, layout.width, count, layout.class_token)
        return torch.cat((prefix, prompts, grid), dim=1), behind


@TUNERS.register_module()
@dataclass
class VPT(Tuner):
    """Visual prompt tuning of plain trunks and Swin; other windowed and pooling trunks refuse it.

    Args:
        prompts: p, tokens per block; the paper tries 1 to 200.
        deep: Fresh prompts before every block, instead of before the first alone.
        dropout: Probability of dropping a channel of a prompt, in training.
    """

    requires = frozenset({PROMPTS})
    unmergeable = 'its prompts are further tokens, which no layer holds'

    prompts: Count = 50
    deep: Flag = True
    dropout: Dropout = 0.1

    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Put prompts before the first block, or before each."""
        first = context.blocks[0]
        # As uniform Xavier has it for the patch embedding.
        bound = math.sqrt(6 / (3 * first.stride**2 + first.width))
        for index, block in enumerate(context.blocks if self.deep else context.blocks[:1]):
            replaced = self.prompts if index else 0
            prompts = Prompts(self.prompts, block.width, bound, replaced, self.dropout)
            context.put_prompts(index, prompts)
        return ()
