"""Where adapters sit: the drawing in injection.py, written out by hand."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from mmsigma.errors import InvalidSettingError, UnknownNameError
from mmsigma.models.trunks.block import Block, residual, resolve_indices
from mmsigma.models.trunks.tokens import TokenLayout, TokenState
from mmsigma.models.tuners.injection import (
    POSITIONS,
    AdapterBank,
    InjectionContext,
    resolve_positions,
)

LAYOUT = TokenLayout(1, 3)


class Stub(nn.Module):
    """An affine adapter of its own kind, which remembers what it was called with."""

    def __init__(self, factor: float, log: list) -> None:
        super().__init__()
        self.factor = factor
        self.log = log

    def forward(self, tokens: Tensor, layout: TokenLayout) -> Tensor:
        self.log.append((self, tokens, layout))
        return self.factor * tokens + self.factor**2


def attention(x: Tensor) -> Tensor:
    return x.sin() + 2


def mlp(x: Tensor) -> Tensor:
    return x.cos() * 3


def by_hand(x: Tensor, a: dict[str, Stub]) -> tuple[Tensor, dict[str, Tensor]]:
    """The block's output, and what the adapter at every position reads."""

    def update(position: str, read: Tensor) -> Tensor:
        reads[position] = read
        if position not in a:
            return torch.zeros_like(read)
        return a[position].factor * read + a[position].factor ** 2

    reads: dict[str, Tensor] = {}
    branch = attention(x)
    branch = branch + update('after_attention', branch)
    y = x + branch + update('parallel_attention', x)
    y = y + update('after_attention_residual', y)
    branch = mlp(y)
    branch = branch + update('after_mlp', branch)
    z = y + branch + update('parallel_mlp', y)
    z = z + update('after_block', z)
    return z, reads


SETS = [c for n in (0, 1, 2) for c in itertools.combinations(POSITIONS, n)] + [POSITIONS]


@pytest.mark.parametrize('positions', SETS, ids='+'.join)
def test_order_of_positions(positions: tuple[str, ...]) -> None:
    bank, log, stubs = AdapterBank(), [], {}
    for i, position in enumerate(positions):
        stubs[position] = Stub(0.3 + 0.2 * i, log)
        bank.put(5, position, stubs[position])
        bank.put(6, position, Stub(99.0, log))  # another block's: not run
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).double()
    block = Block(nn.Identity(), 4, residual(attention), lambda y, _: mlp(y))
    state = TokenState(LAYOUT)
    out, behind = bank.run(5, block, x, state)
    assert behind is state
    expected, reads = by_hand(x, stubs)
    assert torch.allclose(out, expected, rtol=0, atol=1e-14)
    order = [p for p in reads if p in positions]
    assert [adapter for adapter, _, _ in log] == [stubs[p] for p in order]
    for position, (_, read, layout) in zip(order, log, strict=True):
        assert torch.allclose(read, reads[position], rtol=0, atol=1e-14)
        assert layout is LAYOUT


@pytest.mark.parametrize('positions', SETS, ids='+'.join)
def test_blocks_that_pool(positions: tuple[str, ...]) -> None:
    """The residual step starts from the pooled tokens: what an adapter beside attention reads."""
    bank, log, pooled = AdapterBank(), [], TokenLayout(1, 1)
    stubs = {p: Stub(0.3 + 0.2 * i, log) for i, p in enumerate(positions)}
    for position, stub in stubs.items():
        bank.put(0, position, stub)

    def pool(x: Tensor, state: TokenState) -> tuple[Tensor, Tensor, TokenState]:
        base = x.amax(1, keepdim=True)
        return base, attention(base), TokenState(pooled, 'rope')

    def after(y: Tensor, state: TokenState) -> Tensor:
        assert state == TokenState(pooled, 'rope')
        return mlp(y)

    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).double()
    out, state = bank.run(0, Block(nn.Identity(), 4, pool, after), x, TokenState(LAYOUT, 'rope'))
    assert state == TokenState(pooled, 'rope')
    assert torch.allclose(out, by_hand(x.amax(1, keepdim=True), stubs)[0], rtol=0, atol=1e-14)
    assert all(layout is pooled for _, _, layout in log)


def test_undivided_blocks_have_one_place() -> None:
    blocks = [Block(nn.Tanh(), 4, None, None)]
    context = InjectionContext(nn.Identity(), blocks, False, AdapterBank())
    context.put(0, 'after_block', nn.Identity())
    for position in POSITIONS[1:]:
        with pytest.raises(InvalidSettingError, match=f"Tanh.*after_block, not '{position}'"):
            context.put(0, position, nn.Identity())
    with pytest.raises(InvalidSettingError, match='whole'):
        context.adapters.run(0, blocks[0], torch.zeros(1, 3, 4), TokenState(LAYOUT))


def test_every_position_matters() -> None:
    """No two places are the same place."""
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    outs = [by_hand(x, {p: Stub(0.5, [])})[0] for p in POSITIONS]
    assert all(not torch.allclose(a, b) for a, b in itertools.combinations(outs, 2))


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        ('after_block', ('after_block',)),
        ('both', ('after_attention', 'after_mlp')),
        (['both', 'parallel_mlp'], ('after_attention', 'after_mlp', 'parallel_mlp')),
        (list(POSITIONS), POSITIONS),
    ],
    ids=str,
)
def test_resolve_positions(given: str, expected: tuple) -> None:
    assert resolve_positions(given) == expected


@pytest.mark.parametrize(
    ('given', 'error', 'parts'),
    [
        (
            'after_blok',
            UnknownNameError,
            ["'after_blok'", "mean 'after_block'", *POSITIONS, 'both'],
        ),
        (['after_mlp', 'x'], UnknownNameError, ["'x'", *POSITIONS]),
        ([], InvalidSettingError, ['[]', 'once each']),
        (['both', 'after_mlp'], InvalidSettingError, ['both', 'once each']),
    ],
    ids=str,
)
def test_resolve_positions_errors(given: str, error: type, parts: list[str]) -> None:
    with pytest.raises(error) as caught:
        resolve_positions(given)
    assert all(part in str(caught.value) for part in parts), caught.value


@pytest.mark.parametrize(
    ('given', 'expected'),
    [([0], (0,)), ([-1], (3,)), ([3, 0, -2], (0, 2, 3)), (range(4), (0, 1, 2, 3))],
    ids=str,
)
def test_resolve_indices(given: list[int], expected: tuple) -> None:
    assert resolve_indices(given, 4, 'blocks') == expected


@pytest.mark.parametrize(
    ('given', 'parts'),
    [
        ([4], ['things [4]', '4 blocks', '0 to 3', '-4 to -1']),
        ([0, -5], ['-5', '4 blocks']),
        ([1.0], ['1.0']),
        ([True], ['True']),
        (['1'], ["'1'"]),
        ([1, -3], ['[1, -3]', 'once']),
        ([], ['[]', 'at least one']),
    ],
    ids=str,
)
def test_resolve_indices_errors(given: list, parts: list[str]) -> None:
    with pytest.raises(InvalidSettingError) as caught:
        resolve_indices(given, 4, 'things')
    assert all(part in str(caught.value) for part in parts), caught.value
