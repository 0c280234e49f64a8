"""One pass of a frozen trunk for several backbones on it.

::

    embed ── block 0 ── ... ── block f-1 ──┬── block f ── ...     the trunk alone, run once
                                           └── block f, adapters ── ...     a backbone's own

A backbone leaves the trunk's own stream of tokens at its first adapted block f; below, all of them
have the same stream. So it is run once, as far as one of them needs it, and kept where one branches
off and where one takes a map.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.trunks.base import Trunk
from mmsigma.models.trunks.block import Block
from mmsigma.models.trunks.tokens import TokenState
from mmsigma.models.tuners.injection import AdapterBank


def shared_blocks(backbone: AdaptedBackbone) -> int:
    """How many of a backbone's blocks are the trunk's alone: those below the first adapted one."""
    return _first(backbone.adapters, backbone.out_indices)


@contextmanager
def shared_forward(backbones: Iterable[AdaptedBackbone]) -> Iterator[None]:
    """Within it, backbones on one trunk that are given the same images share its pass over them.

    Each is called as ever, however often and in whatever order, and gives what it gives alone, to
    the bit. Images are the same if the values that reach the backbones are, so models that
    normalise or resize otherwise take a pass of their own. There are no gradients. At the end all
    is forgotten; until then, of each batch of images the tokens are kept that others may need.

    A trunk that runs as a whole (``TimmGeneric``) shares nothing but its weights.

    Args:
        backbones: On the same trunk, in evaluation mode.
    """
    backbones = list(backbones)
    trunk = backbones[0].trunk if backbones else None
    with torch.no_grad():
        # Whole trunks have a `maps` of their own; the inner of two nested passes is the outer.
        if trunk is None or type(trunk).maps is not Trunk.maps or 'maps' in vars(trunk):
            yield
            return
        trunk.maps = _Pass(trunk, backbones).maps  # type: ignore[method-assign]
        try:
            yield
        finally:
            del trunk.maps


def _first(adapters: AdapterBank, outputs: Collection[int]) -> int:
    return min([max(outputs) + 1, *(int(index) for index in adapters.at)])


class _Pass:
    """What the backbones on a trunk share of its pass over each batch of images."""

    def __init__(self, trunk: Trunk, backbones: Iterable[AdaptedBackbone]) -> None:
        self.trunk = trunk
        self.blocks = trunk.blocks()
        self.needed = {0}
        for backbone in backbones:
            first = shared_blocks(backbone)
            self.needed |= {first, *(i + 1 for i in backbone.out_indices if i < first)}
        self.streams: list[_Stream] = []

    def maps(self, images: Tensor, adapters: AdapterBank, outputs: Collection[int]) -> list[Tensor]:
        """In place of :meth:`Trunk.maps`."""
        stream = self._stream(images, adapters)
        first, found = _first(adapters, outputs), []
        tokens, state = stream.before(first, adapters)
        for index in range(max(outputs) + 1):
            if index >= first:
                tokens, state = adapters.run(index, self.blocks[index], tokens, state)
            if index in outputs:
                at = (tokens, state) if index >= first else stream.before(index + 1, adapters)
                found.append(at[1].layout.to_map(self.trunk.norm(at[0], index)))
        return found

    def _stream(self, images: Tensor, adapters: AdapterBank) -> '_Stream':
        kind = _kind(images, adapters)
        for stream in self.streams:
            if stream.kind == kind and torch.equal(stream.images, images):
                return stream
        stream = _Stream(images, kind, self.trunk.embed(images), self.blocks, self.needed)
        self.streams.append(stream)
        return stream


class _Stream:
    """The tokens of one batch of images, before the blocks where someone needs them.

    Args:
        images: ``(B, 3, H, W)``.
        kind: See :func:`_kind`.
        embedded: Their tokens before block 0.
        blocks: The trunk's.
        needed: Indices of the blocks before which tokens are kept.
    """

    def __init__(
        self,
        images: Tensor,
        kind: tuple[object, ...],
        embedded: tuple[Tensor, TokenState],
        blocks: list[Block],
        needed: Collection[int],
    ) -> None:
        self.images = images
        self.kind = kind
        self.blocks = blocks
        self.needed = needed
        self.kept = {0: embedded}

    def before(self, index: int, adapters: AdapterBank) -> tuple[Tensor, TokenState]:
        """Tokens as the trunk alone has them before block ``index``, and what they stand for.

        Args:
            index: No greater than that of the first block that has adapters.
            adapters: What runs the blocks that have not been run yet.
        """
        start = max(known for known in self.kept if known <= index)
        tokens, state = self.kept[start]
        for i in range(start, index):
            tokens, state = adapters.run(i, self.blocks[i], tokens, state)
            if i + 1 in self.needed:
                self.kept[i + 1] = tokens, state
        return tokens, state


def _kind(images: Tensor, adapters: AdapterBank) -> tuple[object, ...]:
    """What besides the images' values decides how the trunk computes, or rounds."""
    device = images.device.type
    autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
    compiled = adapters.compiled and repr(adapters.compiled.options)
    return images.shape, images.dtype, images.device, autocast, compiled
