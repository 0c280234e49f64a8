"""Layers of tuners, and those that they look for in a trunk: by type and by what runs."""

from typing import Any

import torch
from timm import layers
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.injection import InjectionContext

# Those of timm that are none of PyTorch's; not every version has them all.
_TIMM = (
    'RmsNorm',
    'RmsNormFp32',
    'RmsNorm2d',
    'RmsNorm2dFp32',
    'SimpleNorm',
    'SimpleNormFp32',
    'SimpleNorm2d',
    'SimpleNorm2dFp32',
)
NORMS: tuple[type[nn.Module], ...] = (
    nn.LayerNorm,  # also timm's and mmpretrain's LayerNorm2d and kin
    nn.RMSNorm,
    nn.GroupNorm,
    _NormBase,  # batch and instance norms
    *(getattr(layers, name) for name in _TIMM if hasattr(layers, name)),
)


class Bottleneck(nn.Module):
    """An adapter: the update ``s * Up(Dropout(inside))`` of the tokens ``(B, N, C)`` it reads.

    Args:
        width: C, channels of the trunk.
        bottleneck: r, channels inside.
        dropout: Probability of dropping an activated bottleneck feature, in training.
        zero_init: Whether Up starts at zero, and with it the update.
        scale: s, a constant factor of the update; None leaves it out.
    """

    def __init__(
        self,
        width: int,
        bottleneck: int,
        dropout: float,
        zero_init: bool,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Linear(width, bottleneck)
        self.build(bottleneck)
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(bottleneck, width)
        if zero_init:
            zero(self.up)

    def build(self, bottleneck: int) -> None:
        """Make what is between Down and Up, and give Down start values of its own."""

    def inside(self, tokens: Tensor, layout: TokenLayout) -> Tensor:
        """Activated bottleneck features ``(B, N, r)`` of tokens ``(B, N, C)``."""
        raise NotImplementedError

    def forward(self, tokens: Tensor, layout: TokenLayout) -> Tensor:
        """The update ``(B, N, C)`` of tokens ``(B, N, C)``."""
        update = self.up(self.dropout(self.inside(tokens, layout)))
        return update if self.scale is None else update * self.scale


def zero(layer: nn.Module) -> None:
    """Let all parameters of a layer start at zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def quick_gelu(x: Tensor) -> Tensor:
    """``x * sigmoid(1.702 x)``."""
    return x * torch.sigmoid(1.702 * x)


def final_norms(context: InjectionContext) -> list[nn.Module]:
    """Modules with parameters between the last block and its map, found by running them once."""
    trunk: Any = context.trunk
    ran: list[nn.Module] = []
    handles = [
        module.register_forward_hook(lambda module, *_: ran.append(module))
        for module in trunk.modules()
    ]
    like = next(trunk.parameters())
    try:
        with torch.no_grad():
            trunk.norm(like.new_zeros(1, 1, context.blocks[-1].width), len(context.blocks) - 1)
    finally:
        for handle in handles:
            handle.remove()
    return [module for module in ran if list(module.parameters(recurse=False))]
