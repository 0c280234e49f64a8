"""What a forward pass leaves in memory for the backward pass."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


class Made(TorchDispatchMode):
    """Notes the storage of every tensor that operators make, without keeping it."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {StorageWeakRef(t.untyped_storage()).cdata for t in _tensors((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            storage = tensor.untyped_storage()
            reference = StorageWeakRef(storage)
            if reference.cdata not in given:  # else it is a view
                self.storages[reference.cdata] = (reference, storage.nbytes())
        return out

    def alive(self) -> dict[int, int]:
        """Bytes of each storage that something still holds, by its address."""
        return {key: size for key, (ref, size) in self.storages.items() if not ref.expired()}


def activation_bytes(function: Callable[..., Any], *args: Any) -> int:
    """Bytes that ``function`` makes and that are alive behind it, besides what it returns."""
    with Made() as made:
        out = function(*args)
    alive = made.alive()
    for tensor in _tensors(out):
        alive.pop(StorageWeakRef(tensor.untyped_storage()).cdata, None)
    return sum(alive.values())


def saved(function: Callable[..., Any], *args: Any, but: nn.Module | None = None) -> list[Tensor]:
    """Tensors that autograd saves in ``function``, each storage once, besides a module's own."""
    found: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = function(*args)
    del out
    own = [] if but is None else [*but.parameters(), *but.buffers()]
    for tensor in own:
        found.pop(tensor.untyped_storage().data_ptr(), None)
    return list(found.values())
