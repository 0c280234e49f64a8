"""Errors of what computes in low precision, against float64, in units of the format's rounding.

The unit is not the size of a result, which may be a small difference of large terms. It is how far
the exact result moves when all that goes in (input, parameters, the gradient that arrives) is off
by a random part of one rounding of the format. Rounding what goes in costs that in any case; a
computation that is as good as its format rounds a few times more on its way.
"""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

# Half a unit in the last place, of values that begin with 1.
ROUNDING = {'float32': 2**-24, 'bfloat16': 2**-8, 'float16': 2**-11}
Call = Callable[[Any, Tensor], Tensor | Sequence[Tensor]]
Results = dict[str, Tensor]

DEVICES = [
    'cpu',
    pytest.param(
        'cuda',
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='PyTorch finds no GPU'),
    ),
]
_DRAWS = 4


def results(
    own: nn.Module,
    call: Call,
    given: Tensor,
    seed: int = 0,
    off: Callable[[Tensor], Tensor] = torch.clone,
    device: str = 'cpu',
) -> Results:
    """Values, and the gradients of the input and of all that trains, as float64.

    Args:
        own: A module.
        call: ``call(own, given)`` gives one value or several.
        given: The input.
        seed: Of what each value is weighed with in the loss.
        off: What changes all that goes in.
        device: Where it is computed.
    """
    own, given = copy.deepcopy(own), off(given).to(device).requires_grad_()
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.copy_(off(parameter))
    # TensorFloat-32, which convolutions may take on a GPU, is another format.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return _results(own.to(device), call, given, seed, off)


def _results(
    own: nn.Module, call: Call, given: Tensor, seed: int, off: Callable[[Tensor], Tensor]
) -> Results:
    found = call(own, given)
    values = [found] if isinstance(found, Tensor) else list(found)
    generator = torch.Generator().manual_seed(seed)
    weights = [off(torch.randn(v.shape, generator=generator).double()) for v in values]
    loss = sum((v.double() * w.to(v.device)).sum() for v, w in zip(values, weights, strict=True))
    trained = {name: p for name, p in own.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(loss, [given, *trained.values()])
    named = {f'value {i}': value for i, value in enumerate(values)}
    named |= dict(zip(['input', *trained], gradients, strict=True))
    return {name: tensor.detach().double().cpu() for name, tensor in named.items()}


class Exact:
    """What a float32 module gives in float64, and how far that moves: see :func:`results`."""

    def __init__(self, own: nn.Module, call: Call, given: Tensor, seed: int = 0) -> None:
        double = copy.deepcopy(own).double()
        self._results = partial(results, double, call, given.double(), seed)
        self._exact = self._results()
        self._units: dict[str, Results] = {}

    def errors(self, found: Results, dtype: str) -> dict[str, float]:
        """The error of each result, in the norm, in units of the rounding of a format."""
        assert found.keys() == self._exact.keys()
        if dtype not in self._units:
            self._units[dtype] = self._moved(ROUNDING[dtype])
        units = self._units[dtype]
        return {n: float((found[n] - x).norm() / units[n]) for n, x in self._exact.items()}

    def _moved(self, rounding: float) -> Results:
        """The root of the mean square over some draws, of each result."""
        generator = torch.Generator().manual_seed(0)

        def off(tensor: Tensor) -> Tensor:
            part = 2 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 1
            return tensor.detach() * (1 + rounding * part)

        draws = [self._results(off) for _ in range(_DRAWS)]
        return {
            name: torch.stack([draw[name] - exact for draw in draws]).norm() / _DRAWS**0.5
            for name, exact in self._exact.items()
        }
