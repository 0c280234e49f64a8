"""What tests of adapters share: formulas one number at a time in float64, and gradcheck."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.injection import ModuleReference
from tests.tiny import images, same, shake

WIDTH = 6
# Prefix tokens beside rows and columns.
PLACES = [
    TokenLayout(3, 4, 1, True),
    TokenLayout(2, 5, 3, True),
    TokenLayout(3, 3),
    TokenLayout(1, 2),
]


def values(module: nn.Module) -> dict[str, np.ndarray]:
    """The parameters as arrays."""
    return {name: p.detach().numpy() for name, p in module.named_parameters()}


def tokens_of(layout: TokenLayout, batch: int = 2) -> Tensor:
    """Random float64 tokens ``(batch, N, WIDTH)``."""
    generator = torch.Generator().manual_seed(layout.prefix + 7 * layout.height)
    count = layout.prefix + layout.height * layout.width
    return torch.randn(batch, count, WIDTH, generator=generator).double()


def random(module: nn.Module) -> nn.Module:
    """The module in float64 and eval mode, every parameter random."""
    shake(module.double().eval())
    return module


def linear(x: Sequence[float], weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """``weight x + bias`` of one vector, one product at a time."""
    out = np.zeros(len(weight))
    for i, row in enumerate(weight):
        for j, factor in enumerate(row):
            out[i] += factor * x[j]
        out[i] += 0 if bias is None else bias[i]
    return out


def gelu(x: np.ndarray) -> np.ndarray:
    return np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x])


def quick_gelu(x: np.ndarray) -> np.ndarray:
    return np.array([v / (1 + math.exp(-1.702 * v)) for v in x])


def softmax(x: np.ndarray) -> np.ndarray:
    powers = [math.exp(v) for v in x]
    return np.array([p / math.fsum(powers) for p in powers])


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    mean = math.fsum(x) / len(x)
    variance = math.fsum((v - mean) ** 2 for v in x) / len(x)
    return (x - mean) / math.sqrt(variance + eps) * weight + bias


def convolve(image: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """A dense 3x3 convolution with zeros around: ``(H, W, r) -> (H, W, r)``, one tap at a time."""
    height, width, _ = image.shape
    out = np.zeros((height, width, len(kernel)))
    for y in range(height):
        for x in range(width):
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if 0 <= y + dy < height and 0 <= x + dx < width:
                        tap = kernel[:, :, dy + 1, dx + 1]
                        out[y, x] += linear(image[y + dy, x + dx], tap, None)
            out[y, x] += 0 if bias is None else bias
    return out


def check_equal(
    adapter: nn.Module, layout: TokenLayout, update: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Compare an adapter with ``update``, which gives one image's update ``(N, C)``."""
    tokens = tokens_of(layout)
    expected = np.stack([update(image) for image in tokens.numpy()])
    assert np.abs(expected).max() > 0.01
    with torch.no_grad():
        torch.testing.assert_close(
            adapter(tokens, layout), torch.from_numpy(expected), rtol=1e-10, atol=1e-10
        )


def check_gradients(adapter: nn.Module, *borrowed: nn.Module) -> None:
    """Gradcheck over tokens, the adapter's parameters and those of modules that it borrows."""
    layout = TokenLayout(2, 2, 1, True)
    tokens = tokens_of(layout, 2).requires_grad_()
    parameters = [p for m in (adapter, *borrowed) for p in m.parameters()]

    def function(tokens: Tensor, *_: Tensor) -> Tensor:
        return adapter(tokens, layout)

    assert torch.autograd.gradcheck(function, (tokens, *parameters))


def check_dropout(adapter: nn.Module) -> None:
    """Dropout acts in training only."""
    layout = TokenLayout(3, 4, 1, True)
    tokens = tokens_of(layout)
    with torch.no_grad():
        assert torch.equal(adapter(tokens, layout), adapter(tokens, layout))
        adapter.train()
        assert not torch.equal(adapter(tokens, layout), adapter(tokens, layout))


def norm() -> ModuleReference:
    """A trunk's norm, all random."""
    return ModuleReference(random(nn.LayerNorm(WIDTH, eps=1e-3)).requires_grad_(False))


def places(own: AdaptedBackbone) -> dict[str, list[str]]:
    """Positions of the adapters of each block."""
    return {index: list(at) for index, at in own.adapters.at.items()}


def starts_as(own: AdaptedBackbone, frozen: AdaptedBackbone, trunk: str = 'dinov2') -> bool:
    with torch.no_grad():
        return same(own(images(trunk)), frozen(images(trunk)))
