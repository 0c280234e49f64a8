"""Layer norm that reads one format and writes another, with weights in float32.

Under autocast PyTorch's has float32 on both sides: half-precision tokens are widened before it and
narrowed behind it, in passes of their own, twice forward and twice backward. This one does the same
arithmetic in one pass.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

PROGRAMS = 4  # of the backward pass on each multiprocessor; each sums what its rows say of weights


@triton.jit
def forward(
    x, weight, bias, out, mean, scale, rows, width, eps, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    """Normalised rows, and the mean and inverse deviation of each."""
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    c = tl.arange(0, BLOCK)
    inside = c < width
    there = (r < rows)[:, None] & inside[None, :]
    at = r[:, None] * width + c[None, :]
    value = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
    average = tl.sum(value, 1) / width
    centred = tl.where(inside[None, :], value - average[:, None], 0.0)
    inverse = 1 / tl.sqrt(tl.sum(centred * centred, 1) / width + eps)
    tl.store(mean + r, average, mask=r < rows)
    tl.store(scale + r, inverse, mask=r < rows)
    w = tl.load(weight + c, mask=inside, other=0.0)[None, :]
    found = centred * inverse[:, None] * w + tl.load(bias + c, mask=inside, other=0.0)[None, :]
    tl.store(out + at, found.to(out.dtype.element_ty), mask=there)


@triton.jit
def backward(
    grad, x, weight, mean, scale, dx, part, rows, width, programs,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of rows, and this program's sums ``(2, width)`` for those of weight and bias."""
    program = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    inside = c < width
    w = tl.load(weight + c, mask=inside, other=0.0)[None, :]
    of_weight = tl.zeros((BLOCK,), tl.float32)
    of_bias = tl.zeros((BLOCK,), tl.float32)
    for start in range(program * ROWS, rows, programs * ROWS):
        r = start + tl.arange(0, ROWS).to(tl.int64)
        there = (r < rows)[:, None] & inside[None, :]
        at = r[:, None] * width + c[None, :]
        average = tl.load(mean + r, mask=r < rows, other=0.0)[:, None]
        inverse = tl.load(scale + r, mask=r < rows, other=0.0)[:, None]
        value = (tl.load(x + at, mask=there, other=0.0).to(tl.float32) - average) * inverse
        value = tl.where(there, value, 0.0)
        d = tl.load(grad + at, mask=there, other=0.0).to(tl.float32)
        of_weight += tl.sum(d * value, 0)
        of_bias += tl.sum(d, 0)
        d = d * w
        found = d - tl.sum(d, 1)[:, None] / width - value * tl.sum(d * value, 1)[:, None] / width
        tl.store(dx + at, (found * inverse).to(dx.dtype.element_ty), mask=there)
    place = part + program * 2 * width + c
    tl.store(place, of_weight, mask=inside)
    tl.store(place + width, of_bias, mask=inside)


class LayerNorm(torch.autograd.Function):
    """``LayerNorm.apply(x, weight, bias, eps, dtype)``: ``x`` ``(..., C)`` in ``dtype``."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype
    ) -> Tensor:
        x = x.contiguous()
        width = x.shape[-1]
        rows = x.numel() // width
        out = torch.empty_like(x, dtype=dtype)
        mean, scale = torch.empty(2, rows, dtype=torch.float32, device=x.device)
        block = triton.next_power_of_2(width)
        with torch.cuda.device_of(x):
            forward[(triton.cdiv(rows, 4),)](
                x, weight, bias, out, mean, scale, rows, width, eps, ROWS=4, BLOCK=block
            )
        ctx.save_for_backward(x, weight, mean, scale)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        grad = grad.contiguous()
        width, rows = x.shape[-1], len(mean)
        programs = min(triton.cdiv(rows, 2), PROGRAMS * _multiprocessors(x.device))
        dx = torch.empty_like(x)
        part = torch.empty(programs, 2, width, dtype=torch.float32, device=x.device)
        with torch.cuda.device_of(x):
            backward[(programs,)](
                grad, x, weight, mean, scale, dx, part, rows, width, programs,
                ROWS=2, BLOCK=triton.next_power_of_2(width),
            )  # fmt: skip
        of_weight, of_bias = part.sum(dim=0)
        return dx, of_weight, of_bias, None, None


def _multiprocessors(device: torch.device) -> int:
    if device.type != 'cuda':
        return 1  # Triton's interpreter
    return torch.cuda.get_device_properties(device).multi_processor_count
