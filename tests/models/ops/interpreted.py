"""The kernels of :mod:`mmsigma.models.ops` on a CPU, in Triton's interpreter, against float64.

``tests/models/ops/test_kernels.py`` runs this file in a process of its own: the interpreter has to
be chosen before the kernels are imported.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmsigma.models.ops import fused, layer_norm
from mmsigma.models.ops.layer_norm import LayerNorm
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.sigma import SIGMA, SIGMAAdapter
from tests.rounding import Exact, results
from tests.tiny import shake

WIDTH = 24
# Of one draw; found are up to 5 in float32, whose sums are rounded term by term, and 2 in float16.
ALLOWED = {'float32': 8.0, 'float16': 4.0}
LAYOUTS = {
    'class token and register': TokenLayout(7, 8, 2, class_token=True),
    'register alone': TokenLayout(5, 16, 1),
    'grid alone': TokenLayout(3, 5),
    'a single token': TokenLayout(1, 1, 1, class_token=True),
}
SETTINGS: dict[str, dict[str, Any]] = {
    'defaults': {'bottleneck': 16},
    'one kernel': {'bottleneck': 16, 'kernel_sizes': (3,)},
    'wider than the grid': {'bottleneck': 32, 'kernel_sizes': (9, 1), 'gate_hidden': 3},
    'odd widths inside': {'bottleneck': 16, 'gate_hidden': 5, 'modulation_hidden': 7},
}


def adapter(layout: TokenLayout, **settings: Any) -> nn.Module:
    tuner = SIGMA(**settings)
    found = SIGMAAdapter(WIDTH, settings['bottleneck'], layout.class_token, tuner)
    shake(found)
    return found


def check(layout: TokenLayout, dtype: str, monkeypatch: Any, **settings: Any) -> None:
    ran = []

    def fuses(fusion: Any, modulation: Any, z: Tensor) -> bool:
        ran.append(z.dtype)
        return z.dtype != torch.float64

    monkeypatch.setattr(fused, 'fuses', fuses)

    def call(own: nn.Module, given: Tensor) -> Tensor:
        with torch.autocast('cpu', getattr(torch, dtype), enabled=given.dtype != torch.float64):
            return own(given, layout)

    own = adapter(layout, **settings)
    torch.manual_seed(0)
    given = torch.randn(2, layout.prefix + layout.height * layout.width, WIDTH)
    exact = Exact(own, call, given)
    if dtype == 'float32':
        found = results(own, lambda own, given: own(given, layout), given)
    else:
        found = results(own, call, given)
    assert getattr(torch, dtype) in ran
    for name, error in exact.errors(found, dtype).items():
        # Where one scale is all there is, the gate has no say, and no gradient: nothing to compare.
        assert error < ALLOWED[dtype] or (len(settings.get('kernel_sizes', '...')) == 1
                                          and '.gate.' in name), (name, error)  # fmt: skip


@pytest.mark.parametrize('dtype', ALLOWED)
@pytest.mark.parametrize('layout', LAYOUTS)
def test_layouts(layout: str, dtype: str, monkeypatch: Any) -> None:
    check(LAYOUTS[layout], dtype, monkeypatch, bottleneck=16, kernel_sizes=(3, 5))


@pytest.mark.parametrize('settings', SETTINGS)
def test_settings(settings: str, monkeypatch: Any) -> None:
    check(LAYOUTS['class token and register'], 'float32', monkeypatch, **SETTINGS[settings])


def test_more_tokens_than_a_tile_and_a_chunk(monkeypatch: Any) -> None:
    layout = TokenLayout(20, 21, 1, class_token=True)
    check(layout, 'float32', monkeypatch, bottleneck=16, kernel_sizes=(3,))


class Norm(nn.LayerNorm):
    """Through the kernel, in the format that it is given."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float64:
            return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return LayerNorm.apply(x, self.weight, self.bias, self.eps, torch.float16)


@pytest.mark.parametrize('width', [24, 32])
@pytest.mark.parametrize('rows', [(3, 5), (2, 33)])
def test_layer_norm(rows: tuple[int, int], width: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(layer_norm, '_multiprocessors', lambda device: 2)  # several rows each
    own = Norm(width)
    shake(own)
    torch.manual_seed(0)
    given = torch.randn(*rows, width)

    def call(own: nn.Module, given: Tensor) -> Tensor:
        return own(given)

    exact = Exact(own, call, given)
    for name, error in exact.errors(results(own, call, given), 'float16').items():
        assert error < ALLOWED['float16'], (name, error)
