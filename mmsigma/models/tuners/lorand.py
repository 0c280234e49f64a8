"""LoRand: adapters of low-rank synthesis (Yin et al., CVPR 2023, "1% VS 100%").

In our words::

    D = sum_i P_i K_i Q_i,  and U likewise from matrices of its own
    update of h = U(GELU(D(h)))

where ``h`` is what attention or MLP returns, before it is added to the residual. D narrows the C
channels and U widens them again, each with a bias. The paper draws one K_i for D and U; the code of
the authors, followed here, has a K_i for each.

Neither the rank nor the inner width of the published models could be verified: 8 and half the
width are this project's choice.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsigma.models.trunks.block import DIVIDED
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.base import Count, Flag, Kind, Tuner, is_count
from mmsigma.models.tuners.injection import InjectionContext
from mmsigma.registry import TUNERS

POSITIONS = ('after_attention', 'after_mlp')


class SynthesisedLinear(nn.Module):
    """A Linear whose weight is a sum of low-rank products.

    Args:
        width: Channels in.
        out: Channels out.
        branches: Number of products.
        rank: k; the factors are ``(width, k)``, ``(k, k)`` and ``(k, out)``.
    """

    def __init__(self, width: int, out: int, branches: int, rank: int) -> None:
        super().__init__()
        self.p = nn.Parameter(_uniform(rank, branches, width, rank))
        self.k = nn.Parameter(_uniform(rank, branches, rank, rank))
        self.q = nn.Parameter(_uniform(out, branches, rank, out))
        self.bias = nn.Parameter(_uniform(width, out))

    def forward(self, x: Tensor) -> Tensor:
        """``(..., width) -> (..., out)``."""
        weight = (self.p @ self.k @ self.q).sum(dim=0)
        return F.linear(x, weight.T, self.bias)

    def synthesised(self) -> nn.Linear:
        """The same as a plain Linear."""
        linear = nn.Linear(self.p.shape[1], self.q.shape[2])
        linear.weight = nn.Parameter((self.p @ self.k @ self.q).sum(dim=0).T.contiguous())
        linear.bias = self.bias
        return linear


def _uniform(fan: int, *shape: int) -> Tensor:
    """Values between plus and minus ``1 / sqrt(fan)``."""
    return nn.init.uniform_(torch.empty(*shape), -(fan**-0.5), fan**-0.5)


class LoRandAdapter(nn.Module):
    """One LoRand adapter: the update of the tokens ``(B, N, C)`` where it sits.

    Args:
        width: C, channels of the trunk.
        bottleneck: Channels inside.
        branches: Number of low-rank products in each weight.
        rank: Their rank.
        zero_init: Whether the update starts at zero.
    """

    def __init__(
        self, width: int, bottleneck: int, branches: int, rank: int, zero_init: bool
    ) -> None:
        super().__init__()
        self.down = SynthesisedLinear(width, bottleneck, branches, rank)
        self.up = SynthesisedLinear(bottleneck, width, branches, rank)
        if zero_init:
            nn.init.zeros_(self.up.q)
            nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor, layout: TokenLayout) -> Tensor:
        """The update ``(B, N, C)`` of tokens ``(B, N, C)``, each by itself."""
        return self.up(F.gelu(self.down(tokens)))


@TUNERS.register_module()
@dataclass
class LoRand(Tuner):
    """Two LoRand adapters per block: on what attention returns and on what the MLP returns.

    Args:
        branches: Number of low-rank products in each weight; the authors use 2 or 4.
        rank: Rank of each product.
        bottleneck: Channels inside the adapter; None: half of the block's width.
        zero_init: Whether the update starts at zero. The authors' does not, so the adapted model
            differs from the trunk before the first step.
    """

    requires = frozenset({DIVIDED})

    branches: Count = 2
    rank: Count = 8
    bottleneck: Annotated[
        int | None, Kind('must be a whole number >= 1', lambda v: v is None or is_count(v))
    ] = None
    zero_init: Flag = False

    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Put one adapter behind each branch of every block; see :meth:`Tuner.attach`."""
        for index, block in enumerate(context.blocks):
            inner = block.width // 2
            if self.bottleneck is not None:
                self.check_fits('bottleneck', block.width)
                inner = self.bottleneck
            self.check_fits('rank', inner, 'its bottleneck')
            for position in POSITIONS:
                adapter = LoRandAdapter(
                    block.width, inner, self.branches, self.rank, self.zero_init
                )
                context.put(index, position, adapter)
        return ()

    def merge(self, context: InjectionContext) -> dict[str, Any]:
        """Sum every product, so that Down and Up are plain: what is left is a Houlsby Adapter."""
        inner: dict[int, int] = {}
        for index, block in enumerate(context.blocks):
            for module in cast(nn.ModuleDict, context.adapters.at[str(index)]).values():
                adapter: Any = module
                adapter.down, adapter.up = adapter.down.synthesised(), adapter.up.synthesised()
                inner[block.stage] = len(adapter.down.bias)
        widths = [inner[stage] for stage in sorted(inner)]
        bottleneck = widths if len(set(widths)) > 1 else widths[0]
        return {'type': 'Adapter', 'bottleneck': bottleneck, 'dropout': 0.0}
