"""The one mechanism that puts an adapter at a place in a trunk.

::

    x ──┬── attention ──(+ after_attention)──┬─ + ─(+ after_attention_residual)─┐
        └── parallel_attention ──────────────┘                                  │
    ┌───────────────────────────────────────────────────────────────────────────┘
    └───┬── mlp ──(+ after_mlp)──┬─ + ─(+ after_block)──> next block
        └── parallel_mlp ────────┘

An adapter is a module called as ``adapter(tokens, layout)`` on the tokens ``(B, N, C)`` that flow
where it sits. It returns the *update* ``(B, N, C)`` that is added there. Zero updates at
initialisation therefore leave the trunk as it is, to the bit.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown
from mmsigma.layout import TokenLayout

POSITIONS = (
    'after_block',
    'after_attention',
    'after_attention_residual',
    'after_mlp',
    'parallel_attention',
    'parallel_mlp',
)
_SHORTHANDS = {'both': ('after_attention', 'after_mlp')}

Step = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Block:
    """One block of a trunk as two residual steps, ``x + attention(x)`` and ``x + mlp(x)``.

    Attributes:
        module: The upstream module, for tuners that change layers inside it.
        attention: ``(B, N, C) -> (B, N, C)``, the attention branch with its norm and scale.
        mlp: ``(B, N, C) -> (B, N, C)``, the MLP branch with its norm and scale.
        width: C, in channels.
        stage: Index of the resolution stage; 0 throughout a plain trunk.
    """

    module: nn.Module
    attention: Step
    mlp: Step
    width: int
    stage: int = 0


def resolve_positions(position: str | Sequence[str]) -> tuple[str, ...]:
    """Names of places from one name, a list of names or ``'both'`` (after attention and MLP).

    Raises:
        UnknownNameError: A name that is no position.
        InvalidSettingError: No position, or one named twice.
    """
    given = (position,) if isinstance(position, str) else tuple(position)
    names = tuple(name for item in given for name in _SHORTHANDS.get(item, (item,)))
    for name in names:
        if name not in POSITIONS:
            raise UnknownNameError(unknown('position', name, (*POSITIONS, *_SHORTHANDS)))
    if not names or len(set(names)) != len(names):
        raise InvalidSettingError(f'Positions must be named once each; given: {position!r}.')
    return names


def resolve_indices(indices: Iterable[int], depth: int, what: str) -> tuple[int, ...]:
    """Block indices in order, with negative ones counted from the end.

    Raises:
        InvalidSettingError: An index outside ``-depth .. depth - 1``, a repetition, or none.
    """
    given = list(indices)
    for index in given:
        if isinstance(index, bool) or not isinstance(index, int) or not -depth <= index < depth:
            raise InvalidSettingError(
                f'{what} {given} has {index!r}, but this trunk runs {depth} blocks: '
                f'use 0 to {depth - 1}, or -{depth} to -1 from the end.'
            )
    resolved = sorted(index % depth for index in given)
    if not resolved or len(set(resolved)) != len(resolved):
        raise InvalidSettingError(f'{what} {given} must name at least one block, each once.')
    return tuple(resolved)


class AdapterBank(nn.Module):
    """Holds the adapters of a trunk, by block index and position, and runs blocks with them."""

    def __init__(self) -> None:
        super().__init__()
        self.at = nn.ModuleDict()

    def put(self, index: int, position: str, adapter: nn.Module) -> None:
        """Register ``adapter`` at ``position`` of block ``index``."""
        key = str(index)
        if key not in self.at:
            self.at[key] = nn.ModuleDict()
        cast(nn.ModuleDict, self.at[key])[position] = adapter

    def run(self, index: int, block: Block, x: Tensor, layout: TokenLayout) -> Tensor:
        """Block ``index`` with its adapters: tokens ``(B, N, C)`` to tokens ``(B, N, C)``."""
        key = str(index)
        empty: dict[str, nn.Module] = {}
        places = cast(nn.ModuleDict, self.at[key]) if key in self.at else empty

        def add(base: Tensor, position: str, read: Tensor) -> Tensor:
            if position not in places:
                return base
            # Under autocast the operators choose their precision; without it a trunk stored in
            # half precision must not force its dtype on float32 adapters.
            adapter = places[position]
            if torch.is_autocast_enabled(read.device.type):
                return base + adapter(read, layout).to(base.dtype)
            dtype = next((p.dtype for p in adapter.parameters()), read.dtype)
            return base + adapter(read.to(dtype), layout).to(base.dtype)

        branch = block.attention(x)
        branch = add(branch, 'after_attention', branch)
        y = add(x + branch, 'parallel_attention', x)
        y = add(y, 'after_attention_residual', y)

        branch = block.mlp(y)
        branch = add(branch, 'after_mlp', branch)
        z = add(y + branch, 'parallel_mlp', y)
        return add(z, 'after_block', z)


@dataclass
class Site:
    """What a tuner sees of a trunk while it attaches itself, and what it may do there.

    Attributes:
        trunk: The frozen trunk, for tuners that train or change its own layers.
        blocks: The blocks that run, in order (none behind the last output block).
        class_token: Whether the first token is a class token.
        adapters: Where adapter modules go.
    """

    trunk: nn.Module
    blocks: Sequence[Block]
    class_token: bool
    adapters: AdapterBank

    def put(self, index: int, position: str, adapter: nn.Module) -> None:
        """Put an adapter module at a named position of a block."""
        self.adapters.put(index, position, adapter)
