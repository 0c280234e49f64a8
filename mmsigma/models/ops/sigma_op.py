"""What is between Down and Up in a SIGMA adapter as one operator with :mod:`.sigma`'s kernels."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor

from mmsigma.models.ops import sigma as kernels
from mmsigma.models.ops import sigma_grad as gradients

BLOCK = 64  # tokens of a tile
CHUNK = 384  # tokens of a sum for the gradient of a kernel


@cache
def _places(sizes: tuple[int, ...], channels: int, device: torch.device) -> Tensor:
    """Where ``flat`` has what: ``(K, k * k + 2)``, k the largest of the K kernels' sides.

    ``flat`` is all kernels, one scale after the other, and behind them all biases. A row says for
    each tap of the largest kernel which tap of its own scale that is, or -1, and then where the
    scale begins and how many taps it has.
    """
    largest = max(sizes)
    found = torch.full((len(sizes), largest, largest), -1, dtype=torch.int32)
    places, begin = [], 0
    for own, size in zip(found, sizes, strict=True):
        margin, count = (largest - size) // 2, size * size
        inner = slice(margin, margin + size)
        own[inner, inner] = torch.arange(count, dtype=torch.int32).view(size, size)
        places.append([begin, count])
        begin += count * channels
    return torch.cat([found.flatten(1), torch.tensor(places, dtype=torch.int32)], dim=1).to(device)


def _counts(
    flat: Tensor, channels: int, gate: int, wide: int, hidden: int, scales: int
) -> list[int]:
    """Numbers of gradients of weights by tensor: the modulation's, ``flat``, the gate's."""
    modulation = [hidden * wide, hidden, 2 * channels * hidden, 2 * channels]
    own = [gate * channels, gate, scales * channels * gate, scales * channels]
    return [*modulation, len(flat), *own]


def _on(device: torch.device) -> AbstractContextManager[Any]:
    return torch.cuda.device(device) if device.type == 'cuda' else nullcontext()


def _forward(
    z: Tensor,
    flat: Tensor,
    gate1: Tensor,
    gate1_bias: Tensor,
    gate2: Tensor,
    gate2_bias: Tensor,
    mix: Tensor,
    mix_bias: Tensor,
    modulation1: Tensor,
    modulation1_bias: Tensor,
    modulation2: Tensor,
    modulation2_bias: Tensor,
    sizes: Sequence[int],
    height: int,
    width: int,
) -> tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor
]:  # the operator's schema is read from this
    """``GELU((1 + gamma) F + beta)`` of bottleneck features, as the fast form computes it.

    Args:
        z: ``(B, P + height * width, r)``, float32, bfloat16 or float16; r a power of two.
        flat: Kernels and biases of all scales, in one row; see :func:`_places`.
        gate1, gate1_bias, gate2, gate2_bias: The channel gate's layers.
        mix, mix_bias: The 1x1 convolution.
        modulation1, modulation1_bias, modulation2, modulation2_bias: The modulation's layers; the
            first reads ``2 r`` features if the first of the P prefix tokens is a class token.
        sizes: k of each of the K scales.
        height, width: Of the grid, in tokens.

    Returns:
        ``(B, P + height * width, r)``; then what the backward pass reads.
    """
    z = z.contiguous()
    batch, whole, channels = z.shape
    tokens, taps = height * width, max(sizes) ** 2
    prefix, tiles = whole - tokens, triton.cdiv(whole, BLOCK)
    gate, hidden, wide = len(gate1), len(modulation1), modulation1.shape[1]
    small: Any = dict(dtype=torch.float32, device=z.device)
    part = torch.empty(batch, tiles, channels, **small)
    outputs = _outputs(z, gate1, modulation1, sizes, tokens)
    out, conv, fused, mean, gate_hidden, weights, kernel = outputs[:7]
    descriptor, modulation_hidden, scales = outputs[7:]
    strides = z.stride(0), z.stride(1)
    with _on(z.device):
        kernels.gate[(batch,)](
            z, flat, _places(tuple(sizes), channels, z.device),
            gate1, gate1_bias, gate2, gate2_bias, mean, gate_hidden, weights, kernel,
            *strides, prefix, tokens, len(flat) - len(sizes) * channels, taps,
            C=channels, S=len(sizes), G=gate, GP=triton.next_power_of_2(gate),
            TP=triton.next_power_of_2(taps), BLOCK=128,
        )  # fmt: skip
        kernels.fuse[(batch, tiles)](
            z, kernel, mix, mix_bias, conv, fused, part,
            *strides, prefix, height, width, tokens, taps, tiles,
            C=channels, K=max(sizes), BLOCK=BLOCK,
        )  # fmt: skip
        kernels.modulate[(batch,)](
            part, z, modulation1, modulation1_bias, modulation2, modulation2_bias,
            descriptor, modulation_hidden, scales, strides[0], tokens, tiles,
            C=channels, D=wide, M=hidden, MP=triton.next_power_of_2(hidden),
        )  # fmt: skip
        kernels.activate[(batch, tiles)](fused, scales, out, whole, C=channels, BLOCK=BLOCK)
    return outputs


def _outputs(
    z: Tensor, gate1: Tensor, modulation1: Tensor, sizes: Sequence[int], tokens: int
) -> Any:
    """Memory for what :func:`_forward` returns, of a grid of so many tokens."""
    batch, _, channels = z.shape
    small: Any = dict(dtype=torch.float32)
    return (
        torch.empty_like(z, memory_format=torch.contiguous_format),
        z.new_empty(batch, tokens, channels),
        torch.empty_like(z, memory_format=torch.contiguous_format),
        z.new_empty(batch, channels, **small),
        z.new_empty(batch, len(gate1), **small),
        z.new_empty(batch, len(sizes), channels, **small),
        z.new_empty(batch, max(sizes) ** 2 + 1, channels, **small),
        z.new_empty(batch, modulation1.shape[1], **small),
        z.new_empty(batch, len(modulation1), **small),
        z.new_empty(batch, 2, channels, **small),
    )


_operator = torch.library.custom_op('mmsigma::sigma_core', _forward, mutates_args=())


@_operator.register_fake
def _(z: Tensor, flat: Tensor, gate1: Tensor, *others: Any) -> tuple[Tensor, ...]:
    modulation1, (sizes, height, width) = others[5], others[9:]
    return _outputs(z, gate1, modulation1, sizes, height * width)


def _gradients(
    grad: Tensor,
    z: Tensor,
    flat: Tensor,
    gate1: Tensor,
    gate2: Tensor,
    mix: Tensor,
    modulation1: Tensor,
    modulation2: Tensor,
    conv: Tensor,
    fused: Tensor,
    mean: Tensor,
    gate_hidden: Tensor,
    weights: Tensor,
    kernel: Tensor,
    descriptor: Tensor,
    modulation_hidden: Tensor,
    scales: Tensor,
    sizes: Sequence[int],
    height: int,
    width: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of :func:`_forward`: of ``z``, of the mixing, and of all other weights in a row."""
    z, grad = z.contiguous(), grad.contiguous()
    batch, whole, channels = z.shape
    tokens, taps = height * width, max(sizes) ** 2
    prefix, tiles = whole - tokens, triton.cdiv(whole, BLOCK)
    gate, hidden, wide = len(gate1), len(modulation1), modulation1.shape[1]
    small: Any = dict(dtype=torch.float32, device=z.device)
    counts = _counts(flat, channels, gate, wide, hidden, len(sizes))
    row = sum(counts)
    packed = torch.empty(batch, row, **small)
    d_descriptor = torch.empty(batch, wide, **small)
    d_mean = torch.empty(batch, 1, channels, **small)
    d_fused, dz = torch.empty_like(z), torch.empty_like(z)
    d_conv = torch.empty_like(conv)
    sums = torch.empty(batch, 2, tiles, channels, **small)
    outer = torch.empty(batch * tiles, channels + 1, channels, **small)
    largest, chunks = max(sizes), triton.cdiv(tokens, CHUNK)
    of_taps = torch.empty(batch, chunks, taps + 1, channels, **small)
    strides = z.stride(0), z.stride(1)
    with _on(z.device):
        gradients.activate_grad[(batch, tiles)](
            grad, fused, scales, d_fused, sums, whole, tiles, C=channels, BLOCK=BLOCK
        )
        gradients.modulate_grad[(batch,)](
            sums, descriptor, modulation_hidden, modulation1, modulation2, d_descriptor, packed,
            tokens, tiles, row,
            C=channels, D=wide, M=hidden, MP=triton.next_power_of_2(hidden),
        )  # fmt: skip
        gradients.mix_grad[(batch, tiles)](
            d_fused, d_descriptor, conv, mix, dz, d_conv, outer, prefix, tokens, tiles,
            C=channels, D=wide, BLOCK=BLOCK,
        )  # fmt: skip
        gradients.image_grad[(batch, triton.cdiv(tokens, BLOCK))](
            d_conv, kernel, dz, prefix, height, width, tokens, taps,
            C=channels, K=largest, BLOCK=BLOCK,
        )  # fmt: skip
        gradients.kernel_grad[(batch * largest, chunks)](
            d_conv, z, of_taps, *strides, prefix, height, width, tokens, taps, chunks, CHUNK,
            C=channels, K=largest, KP=triton.next_power_of_2(largest), BLOCK=16, num_warps=8,
        )  # fmt: skip
        gradients.gate_grad[(batch,)](
            of_taps, flat, _places(tuple(sizes), channels, z.device), mean, gate_hidden, weights,
            gate1, gate2, d_mean, packed,
            tokens, len(flat), len(flat) - len(sizes) * channels, taps, chunks,
            row, sum(counts[:4]),
            C=channels, S=len(sizes), G=gate, GP=triton.next_power_of_2(gate),
            TP=triton.next_power_of_2(taps),
        )  # fmt: skip
        dz[:, prefix:] += d_mean
    return dz, outer.sum(dim=0), packed.sum(dim=0)


_backward_operator = torch.library.custom_op(
    'mmsigma::sigma_core_backward', _gradients, mutates_args=()
)


@_backward_operator.register_fake
def _(grad: Tensor, z: Tensor, flat: Tensor, gate1: Tensor, *others: Any) -> tuple[Tensor, ...]:
    modulation1, sizes = others[2], others[13]
    channels = z.shape[2]
    wide, hidden = modulation1.shape[1], len(modulation1)
    counts = _counts(flat, channels, len(gate1), wide, hidden, len(sizes))
    return (
        torch.empty_like(z, memory_format=torch.contiguous_format),
        z.new_empty(channels + 1, channels, dtype=torch.float32),
        z.new_empty(sum(counts), dtype=torch.float32),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    z, flat, gate1, _, gate2, _, mix, _, modulation1, _, modulation2, _, *ctx.sizes = inputs
    ctx.save_for_backward(z, flat, gate1, gate2, mix, modulation1, modulation2, *output[1:])
    ctx.set_materialize_grads(False)


def _differentiate(compute: Any, ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    _, flat, gate1, gate2, mix, modulation1, modulation2 = saved[:7]
    dz, mixing, row = compute(grad, *saved, *ctx.sizes)
    channels, scales = len(mix), len(ctx.sizes[0])
    wide, hidden = modulation1.shape[1], len(modulation1)
    counts = _counts(flat, channels, len(gate1), wide, hidden, scales)
    m1, mb1, m2, mb2, d_flat, g1, gb1, g2, gb2 = row.split(counts)
    return (
        dz, d_flat, g1.view_as(gate1), gb1, g2.view_as(gate2), gb2,
        mixing[:channels], mixing[channels],
        m1.view_as(modulation1), mb1, m2.view_as(modulation2), mb2, None, None, None,
    )  # fmt: skip


def _backward(ctx: Any, grad: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    return _differentiate(_backward_operator, ctx, grad)


_operator.register_autograd(_backward, setup_context=_keep)


class _Core(torch.autograd.Function):
    """The operator without PyTorch's dispatcher, which takes longer than all kernels together."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        output = _forward(*inputs)
        _keep(ctx, inputs, output)
        return output[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _differentiate(_gradients, ctx, grad)


def core(*inputs: Any) -> Tensor:
    """:func:`_forward`'s first result, differentiable; in a graph of PyTorch's one operator."""
    if torch.compiler.is_compiling():
        return _operator(*inputs)[0]
    return _Core.apply(*inputs)
