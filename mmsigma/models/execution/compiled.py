"""A trunk's blocks through ``torch.compile``: one graph for all blocks of a kind, at any size.

::

    run(block 0, adapters, tokens, state) ──┐
    run(block 1, adapters, tokens, state) ──┼─> one function ─> one graph per kind of block
    run(block 2, ...)                    ──┘

A block and its adapters are *arguments* of the function, so their weights are inputs of its graph
and not constants in it: twelve equal blocks are compiled once. Blocks are of another kind where
layers or widths differ, where the first gradient begins, in evaluation, under autocast.
"""

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

import torch

from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown

# Graphs of one function, before PyTorch gives up and runs it as it is: 8 by default. A Swin trunk
# has four stages of shifted and unshifted blocks, in training and in evaluation.
_KINDS = 64
# They record CUDA graphs, whose outputs the next call overwrites: here, the next block.
_RECORDING = ('reduce-overhead', 'max-autotune')


class Compiled:
    """A function, compiled at its first call; copies and pickles of it compile anew.

    Args:
        function: At module level; its closure and globals are as they are.
        options: Arguments of ``torch.compile``. ``dynamic`` is True unless given: sizes of images
            are inputs of the graph as well.

    Raises:
        UnknownNameError: An option that ``torch.compile`` does not have.
        InvalidSettingError: A value that it refuses, a mode that records CUDA graphs, or a PyTorch
            that takes weights for constants.
    """

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        self.function = function
        self.options = dict(options)
        known = [name for name in inspect.signature(torch.compile).parameters if name != 'model']
        for name in options:
            if name not in known:
                raise UnknownNameError(unknown('option of torch.compile', name, known))
        records = (options.get('options') or {}).get('triton.cudagraphs')
        if records or options.get('mode') in _RECORDING:
            raise InvalidSettingError(
                f'compile={self.options!r} records CUDA graphs, and each block would overwrite '
                "what the one before it gave. Use mode='max-autotune-no-cudagraphs' or 'default'."
            )
        _configure()
        chosen = {'dynamic': True, **self.options}
        # A copy of the code: PyTorch keeps graphs by code, and other models have other blocks.
        code: Any = function.__code__.replace()
        own = FunctionType(code, function.__globals__, function.__name__)
        try:
            if chosen.get('backend', 'inductor') == 'inductor':
                chosen['options'] = _inductor_options(chosen.pop('mode', None), options)
            self._compiled = torch.compile(own, **chosen)
        except Exception as error:  # unknown backends and modes have no common base
            raise InvalidSettingError(
                f'torch.compile refuses compile={self.options!r}: {error}'
            ) from error

    def __call__(self, *args: Any) -> Any:
        """What the function returns."""
        return self._compiled(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        return Compiled, (self.function, self.options)


def _inductor_options(mode: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    from torch import _inductor as inductor

    # Inductor would order maps for convolutions channels last, and cannot compare their strides
    # where sizes are inputs (a TypeError in torch 2.11 in the backward pass of SIGMA and others).
    own: dict[str, Any] = {'layout_optimization': False}
    preset = inductor.list_mode_options(mode) if mode else {}
    return {**own, **preset, **(given.get('options') or {})}


def _configure() -> None:
    from torch._dynamo import config  # seconds: not for those who compile nothing

    settings: Any = config
    if not getattr(settings, 'inline_inbuilt_nn_modules', False):
        raise InvalidSettingError(
            f'compile needs torch._dynamo.config.inline_inbuilt_nn_modules, which torch '
            f'{torch.__version__} has off, so that every block would be compiled by itself. '
            'Use torch >= 2.5.'
        )
    settings.cache_size_limit = max(settings.cache_size_limit, _KINDS)
    # It cuts graphs where buckets of gradients end. A block's gradients leave together as it is.
    settings.optimize_ddp = False
