"""Rein (Wei et al., CVPR 2024, "Stronger, Fewer, & Superior", arXiv 2312.04265).

In our words, for the grid tokens ``f (hw, C)`` behind a block::

    T = Ta Tb                                   (m, C): the block's own tokens, of low rank
    A = softmax(f T' / sqrt(C))                 (hw, m)
    update of f = s * Wf(A[:, 1:] Wt(T[1:]) + f)

The first token only takes attention away: what falls to it is lost. Wt, Wf and s are shared by all
blocks of a stage (a plain trunk has one). Prefix tokens are neither read nor changed.

The release also derives the queries of its head from T. A backbone here returns maps for unchanged
heads, so that part is left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsigma.errors import InvalidSettingError
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.base import Count, Factor, Flag, Tuner
from mmsigma.models.tuners.injection import InjectionContext, ModuleReference
from mmsigma.models.tuners.layers import zero
from mmsigma.registry import TUNERS


class ReinShared(nn.Module):
    """What all adapters of a stage share.

    Args:
        width: C, channels of the trunk.
        scale: The factor s at the start.
        zero_init: Whether the updates start at zero.
    """

    def __init__(self, width: int, scale: float, zero_init: bool) -> None:
        super().__init__()
        self.wt = nn.Linear(width, width)
        self.wf = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.tensor(float(scale)))
        if zero_init:
            zero(self.wf)


class ReinAdapter(nn.Module):
    """One block's Rein: the update of the tokens ``(B, N, C)`` behind it.

    Args:
        width: C, channels of the trunk.
        tokens: m, number of learned tokens.
        rank: Their rank.
        patch: Side of the trunk's first tokens, in pixels; the start values depend on it.
        shared: The stage's :class:`ReinShared`.
    """

    def __init__(
        self, width: int, tokens: int, rank: int, patch: int, shared: ModuleReference
    ) -> None:
        super().__init__()
        bound = (6 / (3 * patch**2 + (width * rank) ** 0.5)) ** 0.5
        self.a = nn.Parameter(nn.init.uniform_(torch.empty(tokens, rank), -bound, bound))
        self.b = nn.Parameter(nn.init.uniform_(torch.empty(rank, width), -bound, bound))
        self.shared = shared

    def forward(self, tokens: Tensor, layout: TokenLayout) -> Tensor:
        """The update ``(B, N, C)`` of tokens ``(B, N, C)``; zero on the prefix."""
        shared: Any = self.shared.module
        grid = layout.split(tokens)[1]
        learned = self.a @ self.b
        weights = (grid @ learned.T * learned.shape[1] ** -0.5).softmax(dim=-1)
        update = shared.wf(weights[..., 1:] @ shared.wt(learned[1:]) + grid) * shared.scale
        return F.pad(update, (0, 0, layout.prefix, 0))


@TUNERS.register_module()
@dataclass
class Rein(Tuner):
    """One Rein behind every block; blocks of a stage share their projections and scale.

    Args:
        tokens: m, number of learned tokens per block, the first of which is a sink.
        rank: Rank of the learned tokens.
        scale: The learned factor s at the start.
        zero_init: Whether Wf starts at zero. The release's does not, so its adapted model differs
            a little from the trunk before the first step.

    Raises:
        InvalidSettingError: Fewer than two tokens, or a rank above their number.
    """

    unmergeable = 'each token weighs the learned tokens by a softmax of its own'

    tokens: Count = 100
    rank: Count = 16
    scale: Factor = 0.001
    zero_init: Flag = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens < 2:
            raise InvalidSettingError(
                'Rein tokens must be at least 2, because the first one is a sink; given: 1.'
            )
        if self.rank > self.tokens:
            raise InvalidSettingError(
                f'Rein rank {self.rank} is above the number of tokens, {self.tokens}, which bounds '
                f'the rank of their matrix: use at most {self.tokens}.'
            )

    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Put one adapter behind every block, and what they share at one place per stage."""
        patch = context.blocks[0].stride
        shared: dict[str, ModuleReference] = {}
        for index, block in enumerate(context.blocks):
            self.check_fits('rank', block.width)
            name = f'stage{block.stage}_width{block.width}'
            if name not in shared:
                module = ReinShared(block.width, self.scale, self.zero_init)
                shared[name] = context.share(name, module)
            adapter = ReinAdapter(block.width, self.tokens, self.rank, patch, shared[name])
            context.put(index, 'after_block', adapter)
        return ()
