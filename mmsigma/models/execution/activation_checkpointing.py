"""Activation checkpointing (Chen et al., arXiv 1604.06174): computing again instead of keeping."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpointed(function: Callable[..., Any], module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """``function(*args, **kwargs)``, of which the backward pass finds nothing but the arguments.

    What else it needs it computes by calling the function again, with the same random numbers and
    the same autocast: gradients are the same to the bit, where the operators are deterministic.

    Args:
        function: What to call; gradients flow to every tensor that it uses, argument or not.
        module: What it runs. Batch norms in it move their statistics in the first call alone.
        *args, **kwargs: Of the function; its result may be anything.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    further: dict[str, Any] = {}
    if norms:
        further['context_fn'] = lambda: (nullcontext(), _kept_statistics(norms))
    return checkpoint(function, *args, use_reentrant=False, **further, **kwargs)


@contextmanager
def _kept_statistics(norms: list[_BatchNorm]) -> Iterator[None]:
    # Upstream's operator also saves them, so they must be there, and copies serve.
    before = [dict(norm._buffers) for norm in norms]
    for norm, buffers in zip(norms, before, strict=True):
        norm._buffers.update({k: None if v is None else v.clone() for k, v in buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in zip(norms, before, strict=True):
            norm._buffers.update(buffers)
