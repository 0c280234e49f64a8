"""What of an adapter runs through Triton's kernels, and how it calls them."""

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from mmsigma.models.trunks.tokens import TokenLayout


FORMATS = (torch.float32, torch.bfloat16, torch.float16)
WIDTHS = (16, 32, 64, 128)  # of bottlenecks: tiles are powers of two, and fit into registers
LARGEST = 11  # side of a kernel
WIDEST = 128  # hidden layer of gate or modulation
_TRITON = find_spec('triton') is not None


@cache
def _runs(device: torch.device) -> bool:
    return torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)


def fuses(fusion: Any, modulation: Any, z: Tensor) -> bool:
    """Whether :mod:`mmsigma.models.ops.sigma_op` computes these modules of an adapter, and here.

    It does the fast form of the defaults: a channel gate and a global modulation, in float32 or
    half precision with weights in float32, on an Nvidia GPU that has bfloat16.
    """
    return (
        _TRITON
        and z.is_cuda
        and z.dtype in FORMATS
        and z.shape[-1] in WIDTHS
        and fusion is not None
        and modulation is not None
        and fusion.fast
        and fusion.gate_kind == 'channel'
        and fusion.mix.weight.dtype == torch.float32
        and max(fusion.sizes) <= LARGEST
        and max(fusion.gate[0].out_features, modulation.mlp[0].out_features) <= WIDEST
        and _runs(z.device)
    )


def normed(norm: nn.LayerNorm, tokens: Tensor) -> Tensor:
    """``norm(tokens)``, under autocast on a GPU at once in the format that the next layer reads."""
    if (
        _TRITON
        and tokens.is_cuda
        and torch.is_autocast_enabled('cuda')
        and tokens.dtype in FORMATS
        and tokens.shape[-1] <= 4096  # a row is one tile
        and norm.weight.dtype == torch.float32
        and norm.bias is not None
        and _runs(tokens.device)
        and not torch.compiler.is_compiling()  # inductor writes such a kernel itself
    ):
        from mmsigma.models.ops.layer_norm import LayerNorm

        dtype = torch.get_autocast_dtype('cuda')
        return LayerNorm.apply(tokens, norm.weight, norm.bias, norm.eps, dtype)
    return norm(tokens)


def activated(fusion: Any, modulation: Any, z: Tensor, layout: 'TokenLayout') -> Tensor:
    """``GELU(M)`` of bottleneck features ``(B, P + height * width, r)``."""
    from mmsigma.models.ops.sigma_op import core  # needs Triton

    convs = list(fusion.scales)
    flat = torch.cat([*(c.weight.flatten() for c in convs), *(c.bias for c in convs)])
    gate, mlp = fusion.gate, modulation.mlp
    layers = (gate[0], gate[2], fusion.mix, mlp[0], mlp[2])
    parameters = [p for layer in layers for p in (layer.weight, layer.bias)]
    return core(z, flat, *parameters, fusion.sizes, layout.height, layout.width)
