"""A block of a trunk as two residual steps, and how blocks are counted."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from mmsigma.errors import InvalidSettingError
from mmsigma.models.trunks.tokens import TokenState

AttentionStep = Callable[[Tensor, TokenState], tuple[Tensor, Tensor, TokenState]]
MLPStep = Callable[[Tensor, TokenState], Tensor]
EnterStep = Callable[[Tensor, TokenState], tuple[Tensor, TokenState]]

# What a trunk may provide and a tuner may require, besides layers by their name: see :func:`layer`.
DIVIDED = 'divided blocks'  # two residual steps, so that adapters sit inside a block
PRE_NORM = 'pre-norm'  # Block.norms, in every block
PROMPTS = 'prompts'  # Block.prompts, in every block
CALLED = 'called layers'  # no layer whose weight upstream reads, and does the rest itself


def layer(path: str) -> frozenset[str]:
    """What a trunk provides with a layer of this path in its blocks: each end of the path."""
    names = path.split('.')
    return frozenset('layer ' + '.'.join(names[at:]) for at in range(len(names)))


# What most transformers provide.
USUAL = frozenset({DIVIDED, PRE_NORM, CALLED, *layer('attn.qkv')})


@dataclass(frozen=True)
class Block:
    """One block of a trunk as two residual steps.

    The first step gives its two summands apart, ``base + branch``. In most blocks ``base`` is the
    block's input; where a block merges or pools tokens it is what the input has become.

    Attributes:
        module: The upstream module, for tuners that change layers inside it.
        width: C, channels behind the block.
        attention: ``(tokens, state) -> (base, branch, state)``, the attention branch with its norm
            and scale; both summands ``(B, N, C)``. None where upstream's block cannot be divided:
            then only ``after_block`` exists.
        mlp: ``(tokens, state) -> branch``, the MLP branch ``(B, N, C)`` with its norm and scale.
        stage: Index of the resolution stage; 0 throughout a plain trunk.
        stride: Side of a token behind the block, in pixels.
        norms: The norms that the attention branch and the MLP branch begin with, where the first
            reads ``base`` and the second the sum ``base + branch``; None where a block norms
            elsewhere, or widens or pools tokens behind its first norm.
        prompts: Whether the steps take more prefix tokens than the trunk itself has: among all
            tokens of the image, or in every window, where a block attends in windows.
        enter: ``(tokens, state) -> (tokens, state)``, what upstream does between the map of the
            block before and this block, such as merging patches where a stage begins; None where
            there is nothing. Prompts that are put before the block join behind it.
    """

    module: nn.Module
    width: int
    attention: AttentionStep | None
    mlp: MLPStep | None
    stage: int = 0
    stride: int = 16
    norms: tuple[nn.Module, nn.Module] | None = None
    prompts: bool = False
    enter: EnterStep | None = None

    @property
    def provides(self) -> frozenset[str]:
        """What this block provides of what tuners may require."""
        has = {DIVIDED: self.attention, PRE_NORM: self.norms, PROMPTS: self.prompts or None}
        return frozenset(name for name, part in has.items() if part is not None)


def residual(attention: Callable[[Tensor], Tensor]) -> AttentionStep:
    """The attention step of a block that neither merges nor pools, from its branch alone."""
    return lambda tokens, state: (tokens, attention(tokens), state)


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
