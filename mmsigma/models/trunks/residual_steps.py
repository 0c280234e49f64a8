"""The two residual steps of blocks that neither merge nor pool, by upstream's names of parts.

::

    branch = drop path( scale( body( norm(x) ) ) )      pre-norm
    branch = drop path( norm( body(x) ) )               post-norm
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from mmsigma.models.trunks.block import Block, MLPStep
from mmsigma.models.trunks.tokens import TokenState

# Attention, or an MLP, of tokens (B, N, C) and what they stand for; without norm, scale, drop path.
Body = Callable[[Tensor, TokenState], Tensor]
Parts = tuple[str, str | None, str | None]  # names of norm, scale and drop path


@dataclass(frozen=True)
class Names:
    """What upstream calls the parts of a block, those of attention first.

    Attributes:
        norms: The norms.
        mlp: The MLP.
        scales: Layer scales, modules or vectors; a block may have None in their place.
        drop_paths: Stochastic depth.
    """

    norms: tuple[str, str] = ('norm1', 'norm2')
    mlp: str = 'mlp'
    scales: tuple[str | None, str | None] = (None, None)
    drop_paths: tuple[str | None, str | None] = (None, None)

    def block(
        self, module: nn.Module, width: int, body: Body, post_norm: bool = False, **facts: Any
    ) -> Block:
        """A block of upstream's.

        Args:
            module: The block.
            width: C, its channels.
            body: Its attention.
            post_norm: Whether it norms behind attention and MLP.
            facts: Of :class:`Block`: ``stage``, ``stride``, ``prompts``, ``enter``.
        """
        first, second = (getattr(module, name) for name in self.norms)
        norms = None if post_norm else (first, second)
        attention = partial(_attention, module, body, self._parts(0), post_norm)
        return Block(
            module, width, attention, self.mlp_step(module, post_norm), norms=norms, **facts
        )

    def mlp_step(self, module: nn.Module, post_norm: bool = False) -> MLPStep:
        """The step of a block's MLP."""
        return partial(_branch, module, partial(_call, module, self.mlp), self._parts(1), post_norm)

    def _parts(self, index: int) -> Parts:
        return self.norms[index], self.scales[index], self.drop_paths[index]


def _attention(
    module: Any, body: Body, parts: Parts, post_norm: bool, x: Tensor, state: TokenState
) -> tuple[Tensor, Tensor, TokenState]:
    return x, _branch(module, body, parts, post_norm, x, state), state


def _branch(
    module: Any, body: Body, parts: Parts, post_norm: bool, x: Tensor, state: TokenState
) -> Tensor:
    norm, scale, drop_path = parts
    if post_norm:
        x = getattr(module, norm)(body(x, state))
    else:
        x = body(getattr(module, norm)(x), state)
        factor = None if scale is None else getattr(module, scale)
        if factor is not None:
            x = factor(x) if isinstance(factor, nn.Module) else factor * x
    return x if drop_path is None else getattr(module, drop_path)(x)


def _call(module: Any, name: str, x: Tensor, state: TokenState) -> Tensor:
    return getattr(module, name)(x)
