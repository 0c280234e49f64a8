"""Depthwise convolutions of several kernel sizes as one, with gradients that CPUs are quick at."""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp.autocast_mode import custom_bwd, custom_fwd

FORMS = ('fast', 'plain')  # of a tuner: one convolution with one_kernel, or one for each


def one_kernel(scales: Sequence[nn.Conv2d], weights: Tensor) -> tuple[Tensor, Tensor]:
    """The identity plus the weighted sum of depthwise convolutions, as one kernel and one bias.

    Convolution is linear in its kernel, so the kernels, padded to the largest, may be summed; the
    identity is a tap at the centre.

    Args:
        scales: K depthwise convolutions of odd kernel sizes and r channels.
        weights: ``(..., K, r)``, of each convolution and channel.

    Returns:
        Kernel ``(..., r, k, k)`` and bias ``(..., r)``.
    """
    largest = max(conv.kernel_size[0] for conv in scales)
    padded = torch.stack(
        [F.pad(conv.weight[:, 0], [(largest - conv.kernel_size[0]) // 2] * 4) for conv in scales]
    )
    tap = padded.new_zeros(largest, largest)
    tap[largest // 2, largest // 2].fill_(1)  # an assignment would copy a number from the CPU
    biases = torch.stack([cast(Tensor, conv.bias) for conv in scales])
    # Plain sums over K: einsum would run one tiny matrix product per channel.
    kernel = (weights[..., None, None] * padded).sum(dim=-4) + tap
    return kernel, (weights * biases).sum(dim=-2)


def mixed(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``F + Conv1x1(F)`` of features ``(..., r)``: the sum is a part of the ``(r, r)`` weight."""
    own = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
    return F.linear(features, weight + own, bias)


def depthwise_conv(image: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """A depthwise convolution that keeps the size: ``(B, r, H, W) -> (B, r, H, W)``.

    Args:
        image: ``(B, r, H, W)``.
        kernel: ``(r, k, k)``, or ``(B, r, k, k)``: one for each image.
        bias: ``(r,)``, or ``(B, r)``.
    """
    batch, channels = image.shape[:2]
    by_hand = kernel.requires_grad and kernel.device.type == 'cpu'
    if kernel.dim() == 3 and not by_hand:
        padding = kernel.shape[-1] // 2
        return F.conv2d(image, kernel.unsqueeze(1), bias, padding=padding, groups=channels)
    # One kernel per image: images become groups of one convolution.
    groups = image.reshape(1, batch * channels, *image.shape[2:])
    kernel = kernel.expand(batch, -1, -1, -1).flatten(0, 1).unsqueeze(1)
    convolve = _DepthwiseConv.apply if by_hand else _convolve
    return cast(Tensor, convolve(groups, kernel, bias.expand(batch, -1).flatten())).view_as(image)


def _convolve(image: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(image, kernel, bias, padding=kernel.shape[-1] // 2, groups=len(kernel))


class _DepthwiseConv(torch.autograd.Function):
    """See :func:`kernel_gradient`, without which this were ``F.conv2d``."""

    @staticmethod
    @custom_fwd(device_type='cpu')
    def forward(ctx: Any, image: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(image, kernel)
        return _convolve(image, kernel, bias)

    @staticmethod
    @custom_bwd(device_type='cpu')
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image, kernel = ctx.saved_tensors
        groups, size = len(kernel), kernel.shape[-1]
        of_image = F.conv2d(grad, kernel.flip(2, 3), padding=size // 2, groups=groups)
        # As one operator where it is compiled: inductor makes the size of a kernel, which here is
        # the map's, a constant of its code, and would compile anew for every size of image.
        gradient = _operator if torch.compiler.is_compiling() else kernel_gradient
        return of_image, gradient(image, grad, size), grad.sum(dim=(0, 2, 3))


def kernel_gradient(image: Tensor, grad: Tensor, size: int) -> Tensor:
    """The gradient ``(G, 1, k, k)`` of a depthwise convolution's kernels.

    For kernels above 3x3 oneDNN computes it by a matrix product per channel, which takes 20 times
    as long as the convolution. The same gradient is the convolution of the image with the output's
    gradient as its kernel, and that runs as fast as any other.

    Args:
        image: ``(1, G, H, W)``.
        grad: Of the output, ``(1, G, H, W)``.
        size: k, odd.
    """
    kernel = grad.transpose(0, 1)
    return F.conv2d(image, kernel, padding=size // 2, groups=len(kernel)).transpose(0, 1)


@torch.library.custom_op('mmsigma::depthwise_kernel_gradient', mutates_args=())
def _operator(image: Tensor, grad: Tensor, size: int) -> Tensor:
    return kernel_gradient(image, grad, size).contiguous()


@_operator.register_fake
def _(image: Tensor, grad: Tensor, size: int) -> Tensor:
    return image.new_empty(image.shape[1], 1, size, size)
