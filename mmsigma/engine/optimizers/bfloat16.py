"""Mixed precision in bfloat16, on CPUs too."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import autocast
from torch import nn

from mmsigma.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """MMEngine's ``OptimWrapper`` with the forward pass under bfloat16 autocast.

    MMEngine's ``AmpOptimWrapper`` asks for an accelerator and scales the loss, which float16 needs
    and bfloat16, with the exponents of float32, does not. Processors with bfloat16 instructions
    train in about half the time: docs/performance.md.

    Args:
        **kwargs: Those of ``OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The context of a forward pass."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
