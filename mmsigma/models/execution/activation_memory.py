"""What a forward pass leaves in memory for the backward pass."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
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
