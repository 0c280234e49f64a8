"""Both forms of SIGMA and Mona against float64, in every format and way to run.

Values, the gradient of the input and that of every parameter, in units of the format's rounding:
see tests/rounding.py.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmsigma.models.execution.activation_checkpointing import checkpointed
from mmsigma.models.execution.compiled import Compiled
from mmsigma.models.ops.depthwise import FORMS
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.sigma import GATES
from tests.rounding import DEVICES, Exact, results
from tests.tiny import TUNERS, backbone, shake

WIDTH, LAYOUT = 32, TokenLayout(8, 9, 2, class_token=True)
SEEDS = range(3)
ADAPTERS: dict[str, dict[str, Any]] = {
    'Mona': TUNERS['Mona'],
    **{f'SIGMA-{g}': {**TUNERS['SIGMA'], 'gate': g, 'scale': 'learned'} for g in GATES},
    'SIGMA-16': {**TUNERS['SIGMA'], 'bottleneck': 16},  # wide enough for the kernels of a GPU
}
# Each step of an adapter rounds its result once more; found are 0.8 to 1.9 units. In float32 sums
# are rounded too, term by term, which autocast's products of halves leave to float32: 2 to 4.1.
ALLOWED = {'float32': 6.0, 'bfloat16': 3.0, 'float16': 3.0}


def called(own: nn.Module, given: Tensor) -> Tensor:
    return own(given, LAYOUT)


def again(own: nn.Module, given: Tensor) -> Tensor:
    return checkpointed(own, own, given, LAYOUT)


@cache
def module(adapter: str, form: str, seed: int) -> nn.Module:
    """The first adapter of a tiny trunk, every parameter random."""
    own = backbone('registers', {**ADAPTERS[adapter], 'form': form})
    found = next(iter(own.adapters.at['0'].values()))  # type: ignore[operator]
    shake(found, seed)
    return found


def tokens(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    count = LAYOUT.prefix + LAYOUT.height * LAYOUT.width
    return torch.randn(2, count, WIDTH, generator=generator)


@cache
def exact(adapter: str, seed: int) -> Exact:
    return Exact(module(adapter, 'plain', seed), called, tokens(seed), seed)


def check(
    adapter: str, form: str, dtype: str, device: str, call: Callable[..., Tensor] = called
) -> None:
    """The root of the mean square of the errors over the seeds, of each result."""

    def run(own: nn.Module, given: Tensor) -> Tensor:
        with torch.autocast(device, getattr(torch, dtype), enabled=dtype != 'float32'):
            return call(own, given)

    errors: dict[str, list[float]] = {}
    for seed in SEEDS:
        found = results(module(adapter, form, seed), run, tokens(seed), seed, device=device)
        for name, error in exact(adapter, seed).errors(found, dtype).items():
            errors.setdefault(name, []).append(error)
    for name, each in errors.items():
        assert torch.tensor(each).square().mean().sqrt() < ALLOWED[dtype], (name, each)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', ALLOWED)
@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('adapter', ADAPTERS)
def test_forms(adapter: str, form: str, dtype: str, device: str) -> None:
    check(adapter, form, dtype, device)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', ALLOWED)
@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('adapter', ['Mona', 'SIGMA-channel', 'SIGMA-16'])
def test_computed_again_in_the_backward_pass(
    adapter: str, form: str, dtype: str, device: str
) -> None:
    check(adapter, form, dtype, device, again)


@pytest.mark.slow
@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', ALLOWED)
@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('adapter', ['Mona', 'SIGMA-channel', 'SIGMA-16'])
def test_compiled(adapter: str, form: str, dtype: str, device: str) -> None:
    check(adapter, form, dtype, device, Compiled(called, {'backend': 'eager'}))
