"""Depthwise convolution whose gradients are depthwise convolutions too, for training on CPUs."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.amp.autocast_mode import custom_bwd, custom_fwd


def depthwise_conv(image: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """``(1, G, H, W)`` of an image ``(1, G, H, W)``, kernel ``(G, 1, k, k)``, bias ``(G,)``."""
    if kernel.requires_grad and kernel.device.type == 'cpu':
        return cast(Tensor, _DepthwiseConv.apply(image, kernel, bias))
    return F.conv2d(image, kernel, bias, padding=kernel.shape[-1] // 2, groups=len(kernel))


class _DepthwiseConv(torch.autograd.Function):
    """See :func:`kernel_gradient`, without which this were ``F.conv2d``."""

    @staticmethod
    @custom_fwd(device_type='cpu')
    def forward(ctx: Any, image: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(image, kernel)
        return F.conv2d(image, kernel, bias, padding=kernel.shape[-1] // 2, groups=len(kernel))

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
