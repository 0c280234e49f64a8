"""What tuners look for among a trunk's own layers: by type and by what runs, not by name."""

from typing import Any

import torch
from timm import layers
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

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
