"""Linear layers whose frozen weights are stored as 8-bit integers, quantised by torchao.

A weight is ``values * scale`` with int8 values and one float32 scale for each output channel. It is
multiplied out for each product, in the forward pass and again in the backward pass, so that nothing
of it in floating point is kept in between; torchao's own product of such a tensor keeps it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from mmsigma.dependencies import extra
from mmsigma.errors import InvalidSettingError

NAME = 'int8'


class Int8Linear(nn.Linear):
    """A frozen Linear layer in 8 bits, computed in float32, or in what autocast says.

    Its bias stays as it was, a parameter that may train. The integers are a parameter too, which
    never trains: so they are counted and sent to other processes like any other. FSDP leaves them
    whole.

    Args:
        layer: The layer to take the place of, in float32.
    """

    values: Tensor  # int8 (out, in)
    scale: Tensor  # float32 (out, 1)

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        found = _quantised(layer.weight.detach())
        self.values = nn.Parameter(found.qdata, requires_grad=False)
        # Not in state dicts: a checkpoint of trained biases fits float32 trunks as well.
        self.register_buffer('scale', found.scale, persistent=False)
        self.bias = layer.bias

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """A copy in float32, for code that reads it and does the rest: upstream's, or peft's."""
        return _weight(self.values, self.scale, self.scale.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """As a Linear layer with the weight ``values * scale``."""
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            x = x.to(torch.get_autocast_dtype(kind))
        bias = None if self.bias is None else self.bias.to(x.dtype)
        # Shaped out here: what a function of our own returns as a view may not change in place.
        product = _Product.apply(x.reshape(-1, x.shape[-1]), self.values, self.scale, bias)
        return product.view(*x.shape[:-1], self.out_features)


class _Product(torch.autograd.Function):
    """``x W' + b`` of ``(N, in)`` with gradients of ``x`` and ``b``; keeps the integers alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(values, scale)
        return F.linear(x, _weight(values, scale, x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        of_x, _, _, of_bias = ctx.needs_input_grad
        values, scale = ctx.saved_tensors
        return (
            gradient @ _weight(values, scale, gradient.dtype) if of_x else None,
            None,
            None,
            gradient.sum(0) if of_bias else None,
        )


def _quantised(weight: Tensor) -> Any:
    """torchao's tensor of a weight ``(out, in)``, symmetric: ``qdata`` and ``scale`` are its parts.

    Its ``quantize_`` does the same to a whole model, but also changes settings of the compiler, and
    leaves layers that cannot be pickled.
    """
    from torchao.quantization import Int8Tensor, PerRow

    return Int8Tensor.from_hp(weight, PerRow())


def _weight(values: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    return (values * scale).to(dtype)


def quantise(model: nn.Module) -> None:
    """Replace every Linear layer of a float32 model, in place.

    Raises:
        ImportError: torchao is not installed.
        InvalidSettingError: The model has no Linear layers.
    """
    extra('torchao', f'trunk.dtype={NAME!r}')
    made: dict[nn.Module, Int8Linear] = {}
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            # PyTorch's own attention hands the weight of this one to compiled code.
            if isinstance(layer, NonDynamicallyQuantizableLinear):
                continue
            if isinstance(layer, nn.Linear):
                made[layer] = made.get(layer) or Int8Linear(layer)
                setattr(parent, name, made[layer])
    if not made:
        raise InvalidSettingError(
            f'trunk.dtype={NAME!r} stores Linear layers, of which this {type(model).__name__} has '
            'none. Take bfloat16 or float16, which store all of a trunk.'
        )
