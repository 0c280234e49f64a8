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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown
from mmsigma.models.execution.activation_checkpointing import checkpointed
from mmsigma.models.execution.compiled import Compiled
from mmsigma.models.trunks.block import DIVIDED, PRE_NORM, PROMPTS, Block
from mmsigma.models.trunks.tokens import TokenLayout, TokenState

POSITIONS = (
    'after_block',
    'after_attention',
    'after_attention_residual',
    'after_mlp',
    'parallel_attention',
    'parallel_mlp',
)
_PROMPTS = 'prompts'  # no position: what sits there changes the tokens, before the block
_SHORTHANDS = {'both': ('after_attention', 'after_mlp')}
# Why a block that does not provide something cannot carry a tuner, and what to do.
_REASONS = {
    DIVIDED: 'runs as a whole: it has the position after_block, not {position!r}. '
    'Use after_block, or a trunk family that divides its blocks.',
    PROMPTS: 'takes no further tokens: it runs whole, pools them, merges overlapping patches, or '
    'attends with biases for rows and columns or for each pair of its own tokens. Use a plain '
    'trunk (TimmViT, TimmEVA, MMPretrainViT) or a Swin (TimmSwin, MMPretrainSwin, '
    'MMPretrainSwinV2), or another tuner.',
    PRE_NORM: 'has no norm whose output an adapter at {position!r} could read: it runs whole, '
    'norms behind its branches, or widens or pools its tokens behind the norm. Use a trunk of '
    'pre-norm blocks, or a tuner that reads the tokens themselves.',
}


@dataclass(frozen=True, eq=False)
class ModuleReference:
    """A module that is registered elsewhere, for an adapter to use.

    It is no module itself, so an adapter that holds it neither counts nor saves the parameters a
    second time. Copies of a whole model keep the tie: the copy's adapter holds the copy's module.
    """

    module: nn.Module

    def __call__(self, tokens: Tensor) -> Tensor:
        """What the module gives, computed in its own dtype, in the dtype of ``tokens``."""
        if torch.is_autocast_enabled(tokens.device.type):
            return self.module(tokens)
        found = (p.dtype for p in self.module.parameters() if p.is_floating_point())
        dtype = next(found, tokens.dtype)
        return self.module(tokens.to(dtype)).to(tokens.dtype)


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


class OutputHook:
    """A forward hook that passes a layer's output through a module registered elsewhere."""

    def __init__(self, adapter: nn.Module) -> None:
        self.adapter = adapter

    def __call__(self, layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """What the adapter makes of the output."""
        return self.adapter(output)


def run_block(
    block: Block, places: Mapping[str, Any], x: Tensor, state: TokenState
) -> tuple[Tensor, TokenState]:
    """A divided block with adapters: tokens ``(B, N, C)`` and what they stand for.

    It reads nothing but its arguments, so that one compiled form serves all blocks of a kind.

    Args:
        block: The block.
        places: Its adapters by position, and its prompts.
        x: ``(B, N, C)``, the tokens before it.
        state: What they stand for.
    """
    attention, mlp = block.attention, block.mlp
    if attention is None or mlp is None:
        raise InvalidSettingError('This block has no steps to run; its trunk runs it whole.')
    if block.enter is not None:
        x, state = block.enter(x, state)
    if _PROMPTS in places:
        x, layout = places[_PROMPTS](x, state.layout)
        state = replace(state, layout=layout)
    base, branch, state = attention(x, state)
    branch = _add(places, 'after_attention', branch, branch, state.layout)
    y = _add(places, 'parallel_attention', base + branch, base, state.layout)
    y = _add(places, 'after_attention_residual', y, y, state.layout)

    branch = mlp(y, state)
    branch = _add(places, 'after_mlp', branch, branch, state.layout)
    z = _add(places, 'parallel_mlp', y + branch, y, state.layout)
    return _add(places, 'after_block', z, z, state.layout), state


def _add(
    places: Mapping[str, Any], position: str, tokens: Tensor, read: Tensor, layout: TokenLayout
) -> Tensor:
    """``tokens`` plus the update of the adapter at ``position``, which reads ``read``, if any."""
    update = _update(places, position, read, layout)
    return tokens if update is None else tokens + update.to(tokens.dtype)


def _update(
    places: Mapping[str, Any], position: str, read: Tensor, layout: TokenLayout
) -> Tensor | None:
    if position not in places:
        return None
    adapter = places[position]
    # Under autocast the operators choose their precision; without it a trunk stored in
    # half precision must not force its dtype on float32 adapters.
    if not torch.is_autocast_enabled(read.device.type):
        read = read.to(next((p.dtype for p in adapter.parameters()), read.dtype))
    return adapter(read, layout)


class AdapterBank(nn.Module):
    """Holds the adapters of a trunk, by block index and position, and runs blocks with them.

    Attributes:
        at: The adapters, by block index and position.
        shared: What several adapters use, by name; see :meth:`InjectionContext.share`.
        with_cp: Whether the backward pass computes blocks again, from their inputs; see
            :mod:`mmsigma.models.execution.activation_checkpointing`.
        compiled: A compiled :func:`run_block` that runs the blocks, or None.
    """

    def __init__(self) -> None:
        super().__init__()
        self.at = nn.ModuleDict()
        self.shared = nn.ModuleDict()
        self.with_cp = False
        self.compiled: Compiled | None = None

    def put(self, index: int, position: str, adapter: nn.Module) -> None:
        """Register ``adapter`` at ``position`` of block ``index``."""
        key = str(index)
        if key not in self.at:
            self.at[key] = nn.ModuleDict()
        cast(nn.ModuleDict, self.at[key])[position] = adapter

    def run(
        self, index: int, block: Block, x: Tensor, state: TokenState
    ) -> tuple[Tensor, TokenState]:
        """Block ``index`` with its adapters: tokens ``(B, N, C)`` and what they stand for."""
        if self.uses_checkpointing(index, block.module, x):
            return checkpointed(self._run, block.module, index, block, x, state)
        return self._run(index, block, x, state)

    def uses_checkpointing(self, index: int, module: nn.Module, x: Tensor) -> bool:
        """Whether a block with the input ``x`` is to be computed again in the backward pass.

        Not below the first adapted block: there autograd keeps nothing, and no gradient arrives.
        """
        if not self.with_cp or not torch.is_grad_enabled():
            return False
        adapted = str(index) in self.at or any(p.requires_grad for p in module.parameters())
        return adapted or x.requires_grad

    def _run(
        self, index: int, block: Block, x: Tensor, state: TokenState
    ) -> tuple[Tensor, TokenState]:
        return (self.compiled or run_block)(block, self._places(index), x, state)

    def _places(self, index: int) -> dict[str, nn.Module]:
        key = str(index)
        return dict(cast(nn.ModuleDict, self.at[key]).items()) if key in self.at else {}

    def update(self, index: int, position: str, read: Tensor, layout: TokenLayout) -> Tensor | None:
        """What the adapter at ``position`` of block ``index`` returns, or None without one."""
        return _update(self._places(index), position, read, layout)


@dataclass
class InjectionContext:
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
        """Put an adapter module at a named position of a block.

        Raises:
            InvalidSettingError: The trunk's blocks are undivided and have no such position.
        """
        if position != 'after_block':
            self._require(index, DIVIDED, position)
        self.adapters.put(index, position, adapter)

    def put_prompts(self, index: int, prompts: nn.Module) -> None:
        """Put a module before a block that adds tokens to the prefix, or replaces them.

        Called as ``prompts(tokens, layout)``, it returns tokens and their layout. What it adds
        stays, block after block; a trunk that widens its tokens widens these too.

        Raises:
            InvalidSettingError: The block takes no tokens besides the trunk's own.
        """
        self._require(index, PROMPTS)
        self.adapters.put(index, _PROMPTS, prompts)

    def put_output_hook(self, layer: nn.Module, name: str, adapter: nn.Module) -> None:
        """Put a module behind a layer inside the trunk: what it returns is the layer's output.

        Args:
            layer: A module of the trunk that its parent calls.
            name: What the adapter is called in checkpoints.
            adapter: Called with the layer's output; returns a tensor of its shape and dtype.
        """
        self.adapters.shared[name] = adapter
        layer.register_forward_hook(OutputHook(adapter))

    def output_hooks(self) -> list[tuple[str, nn.Module, nn.Module]]:
        """Each layer with a module behind it: its name in the trunk, the layer, the module."""
        return [
            (path, layer, hook.adapter)
            for path, layer in self.trunk.named_modules()
            for hook in layer._forward_hooks.values()
            if isinstance(hook, OutputHook)
        ]

    def remove_output_hooks(self) -> None:
        """Take away what :meth:`put_output_hook` put: layers give their own output again."""
        for _, layer, adapter in self.output_hooks():
            for key, hook in list(layer._forward_hooks.items()):
                if isinstance(hook, OutputHook):
                    del layer._forward_hooks[key]
            shared = self.adapters.shared
            for name in [n for n, module in shared.items() if module is adapter]:
                del shared[name]

    def share(self, name: str, module: nn.Module) -> ModuleReference:
        """Register a module that several adapters use, once; they keep what this returns."""
        self.adapters.shared[name] = module
        return ModuleReference(module)

    def norm(self, index: int, position: str) -> ModuleReference:
        """The block's own norm that the branch beside a parallel position begins with.

        Args:
            index: The block.
            position: ``parallel_attention`` or ``parallel_mlp``.

        Raises:
            InvalidSettingError: The block does not begin its branches so.
        """
        self._require(index, PRE_NORM, position)
        norms: Any = self.blocks[index].norms
        return ModuleReference(norms[position == 'parallel_mlp'])

    def _require(self, index: int, what: str, position: str = '') -> None:
        """Refuse a block that does not provide what a tuner requires, by its name.

        Raises:
            InvalidSettingError: It does not; with the reason in :data:`_REASONS`.
        """
        block = self.blocks[index]
        if what not in block.provides:
            reason = _REASONS[what].format(position=position)
            kind = type(block.module).__name__
            raise InvalidSettingError(f'Block {index} of this trunk, a {kind}, {reason}')
