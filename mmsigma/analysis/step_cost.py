"""What a training step of a backbone costs, counted without computing it, and how costs grow."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import flop_counter
from torch.utils.flop_counter import FlopCounterMode

from mmsigma.analysis.kept import kept
from mmsigma.backbone import AdaptedBackbone

_aten = torch.ops.aten


def _attention_on_cpus(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return flop_counter.sdpa_flop_count(query, key, value)


def _its_gradient(
    gradient: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any
) -> int:
    return flop_counter.sdpa_backward_flop_count(gradient, query, key, value)


#: For FlopCounterMode: PyTorch's own table lacks the form of attention that CPUs have.
FLOP_FORMULAS = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention_on_cpus,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _its_gradient,
}


@dataclass(frozen=True)
class Counted:
    """Of one training step of a backbone, in float32.

    Attributes:
        flops: Multiplications and additions of forward and backward pass.
        kept: Bytes that the forward pass leaves for the backward pass, besides the maps.
        weights: Bytes of all parameters.
        parameters: How many there are.
    """

    flops: int
    kept: int
    weights: int
    parameters: int


def count(
    trunk: Mapping[str, Any], tuner: Mapping[str, Any], shapes: Iterable[Sequence[int]]
) -> list[Counted]:
    """Count a step on images of each shape, ``(B, 3, H, W)``; tensors have shapes, but no values.

    Args:
        trunk: Of a family that builds without values; its ``weights`` do not matter.
        tuner: As :class:`AdaptedBackbone` takes it.
        shapes: Of the images.
    """
    with torch.device('meta'):
        model = AdaptedBackbone({**trunk, 'weights': 'random'}, dict(tuner)).train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device='cpu')
        return [_count(model, torch.empty(*shape)) for shape in shapes]


def _count(model: AdaptedBackbone, images: Tensor) -> Counted:
    maps: list[Tensor] = []

    def forward() -> list[Tensor]:
        maps.extend(model(images))
        return maps

    with FlopCounterMode(display=False, custom_mapping=FLOP_FORMULAS) as counter:
        found = kept(forward)
        torch.stack([m.square().mean() for m in maps]).sum().backward()
    model.zero_grad(set_to_none=True)
    parameters = list(model.parameters())
    return Counted(
        counter.get_total_flops(),
        found,
        sum(p.nbytes for p in parameters),
        sum(p.numel() for p in parameters),
    )


def exponent(sizes: Sequence[float], costs: Sequence[float | None]) -> float | None:
    """The ``e`` of ``cost = c * size ** e``: least squares of the logarithms.

    Args:
        sizes: Of each point.
        costs: Of each point, or None where there is none.

    Returns:
        None with less than two points.
    """
    points = [(math.log(s), math.log(c)) for s, c in zip(sizes, costs, strict=True) if c]
    if len({x for x, _ in points}) < 2:
        return None
    centre = [sum(values) / len(points) for values in zip(*points, strict=True)]
    up = sum((x - centre[0]) * (y - centre[1]) for x, y in points)
    return up / sum((x - centre[0]) ** 2 for x, _ in points)
