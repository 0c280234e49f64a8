"""VFM-Adapter (Chen et al., AAAI 2025): bypasses whose convolution is generated for each image.

Only the abstract was at hand: local and global operations in one adapter, parameters generated
from the input, about 3 % of SAM-B. The equations below are this project's reconstruction, on the
skeleton of Convpass, not the paper's text::

    z = qGELU(Down(x));  k = Hyper(mean of z over the grid)       a dense kernel r x r x 3 x 3
    c = qGELU(Conv3x3(z; k));  update = s * Up(Dropout(c))

    Hyper: r channels -> rank -> 9 r^2, two Linears, shared by all adapters

from the tokens ``x`` as the branch's own norm gives them; qGELU(z) = z * sigmoid(1.702 z).
Not verified: what the kernel is generated from, the hypernetwork's form, rank and width, the start
values, and what becomes of prefix tokens (here each is convolved alone, as Convpass does it).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

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


class Hypernetwork(nn.Sequential):
    """Kernels ``(B, 9 r^2)`` of descriptors ``(B, r)``, by way of a few channels.

    Args:
        width: r, channels that the kernels convolve.
        rank: Channels in between.
    """

    def __init__(self, width: int, rank: int) -> None:
        layers = nn.Linear(width, rank), nn.Linear(rank, 9 * width * width)
        super().__init__(*layers)
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


class VFMAdapterModule(Bottleneck):
    """One bypass: what it adds to the tokens beside a branch.

    Args:
        norm: The trunk's norm that the branch begins with.
        hyper: The :class:`Hypernetwork`, shared.
        given: See :class:`Bottleneck`.
    """

    def __init__(self, norm: ModuleReference, hyper: ModuleReference, *given: Any) -> None:
        super().__init__(*given)
        self.norm = norm
        self.hyper = hyper

    def inside(self, tokens: Tensor, layout: TokenLayout) -> Tensor:
        """Convolved features; see :class:`Bottleneck`."""
        z = quick_gelu(self.down(self.norm(tokens)))
        head, grid = layout.split(z)
        batch, width = len(z), z.shape[-1]
        kernel = self.hyper(grid.mean(dim=1)).unflatten(1, (width, width, 3, 3))
        # One kernel per image: images become groups of one convolution. By way of a flat view: a
        # map of one token else keeps strides of a map that lies channels last, for which PyTorch
        # has no gradient on CPUs without bfloat16.
        image = layout.to_map(z).flatten().view(1, batch * width, layout.height, layout.width)
        image = F.conv2d(image, kernel.flatten(0, 1), padding=1, groups=batch)
        c = image.unflatten(1, (batch, width)).squeeze(0).flatten(2).transpose(1, 2)
        if layout.prefix:
            c = torch.cat([head @ kernel[..., 1, 1].transpose(1, 2), c], dim=1)
        return quick_gelu(c)


@TUNERS.register_module()
@dataclass
class VFMAdapter(Tuner):
    """Two bypasses per block, parallel to attention and to the MLP; one hypernetwork for all.

    Args:
        bottleneck: r, channels inside the adapter. With the defaults, 3.05 % of SAM-B.
        rank: Channels inside the hypernetwork, no more than r.
        scale: s, a constant factor of the update.
        dropout: Probability of dropping an activated bottleneck feature, in training.
        zero_init: Whether Up starts at zero, so that the adapted model starts as the trunk.
    """

    requires = frozenset({DIVIDED, PRE_NORM})
    unmergeable = 'its kernels are generated anew for each image'

    bottleneck: Count = 64
    rank: Count = 8
    scale: Factor = 1.0
    dropout: Dropout = 0.1
    zero_init: Flag = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_fits('rank', self.bottleneck, 'its bottleneck')

    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Put one bypass beside each branch of every block; see :meth:`Tuner.attach`."""
        hyper = context.share('hyper', Hypernetwork(self.bottleneck, self.rank))
        self.check_widest('bottleneck', context.blocks)
        given = self.bottleneck, self.dropout, self.zero_init, self.scale
        for index, block in enumerate(context.blocks):
            for position in POSITIONS:
                norm = context.norm(index, position)
                context.put(index, position, VFMAdapterModule(norm, hyper, block.width, *given))
        return ()
