"""A backbone's forward and backward pass as CUDA graphs: started whole, not operator by operator.

On a fast GPU, starting the small operators of adapters can take longer than running them. A CUDA
graph is recorded once for each size of image and batch, and from then on replayed at once.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Maps = tuple[Tensor, ...]
SIZES = 8  # recorded; what comes later runs without a graph


class _Call(nn.Module):
    """A backbone's pass under the autocast that was around it when it was recorded."""

    def __init__(self, backbone: nn.Module, run: Callable[[Tensor], Maps]) -> None:
        super().__init__()
        self.backbone = backbone  # whose parameters PyTorch's function looks for
        self.run = run
        enabled, dtype = torch.is_autocast_enabled('cuda'), torch.get_autocast_dtype('cuda')
        self.autocast: dict[str, Any] = {'dtype': dtype, 'enabled': enabled, 'cache_enabled': False}

    def forward(self, images: Tensor) -> Maps:
        with torch.autocast('cuda', **self.autocast):
            return self.run(images)


class CudaGraphs:
    """Runs a backbone's pass from graphs, recorded with ``torch.cuda.make_graphed_callables``.

    Graphs of all sizes share their memory, and so each pass overwrites what the one before it kept.
    A pass that comes before the backward pass of the last one therefore runs without a graph, and
    so does one whose images require a gradient. Copies and pickles record anew.
    """

    def __init__(self) -> None:
        self._recorded: dict[tuple[Any, ...], Callable[[Tensor], Maps]] = {}
        self._pool: Any = None
        self._waiting: list[weakref.ref[Tensor]] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return CudaGraphs, ()

    def __call__(self, backbone: nn.Module, run: Callable[[Tensor], Maps], images: Tensor) -> Maps:
        """``run(images)``, which is a pass of ``backbone``; of images on a GPU from a graph."""
        if not images.is_cuda or images.requires_grad or torch.compiler.is_compiling():
            return run(images)
        if any(waits() is not None for waits in self._waiting):
            return run(images)
        autocast = torch.is_autocast_enabled('cuda'), torch.get_autocast_dtype('cuda')
        mode = backbone.training, torch.is_grad_enabled()
        key = (images.shape, images.dtype, images.device, *mode, *autocast)
        if key not in self._recorded:
            if len(self._recorded) == SIZES:
                return run(images)
            self._recorded[key] = self._record(backbone, run, images)
        _own_gradients(backbone)
        maps = self._recorded[key](images)
        if not any(m.requires_grad for m in maps):
            return tuple(m.clone() for m in maps)
        self._wait(backbone, maps)
        return maps

    def _record(
        self, backbone: nn.Module, run: Callable[[Tensor], Maps], images: Tensor
    ) -> Callable[[Tensor], Maps]:
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        call = _Call(backbone, run)
        with torch.autocast('cuda', enabled=False):  # its cache would outlive the recording
            found: Any = torch.cuda.make_graphed_callables(
                call, (images.clone(),), allow_unused_input=True, pool=self._pool
            )
        return found

    def _wait(self, backbone: nn.Module, maps: Maps) -> None:
        def arrived(grad: Tensor) -> None:
            self._waiting = []
            _own_gradients(backbone)  # anew where a pass is differentiated twice

        self._waiting = [weakref.ref(m) for m in maps]
        for m in maps:
            m.register_hook(arrived)

    def clear(self) -> None:
        """Forget all: the backbone's weights are elsewhere now."""
        self._recorded, self._waiting = {}, []


def _own_gradients(backbone: nn.Module) -> None:
    """Give gradients that are to be added to memory of their own.

    PyTorch takes the graph's memory for a parameter's first gradient, and any replay, forward or
    backward, may write there.
    """
    for parameter in backbone.parameters():
        if parameter.grad is not None:
            parameter.grad = parameter.grad.clone()
