"""Augmentation as a function of (seed, position in the data stream), so that runs resume exactly.

A worker's random state depends on all it has loaded before and is lost with the process. Here each
draw of the sampler carries a seed of its own, and the first transform seeds NumPy and ``random``
with it: a resumed run, or one with another number of workers, sees the same augmented images.
"""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.dataset import InfiniteSampler

from mmsigma.registry import DATA_SAMPLERS, TRANSFORMS


class Draw(int):
    """A dataset index that carries the seed of its draw through ``Dataset.__getitem__``."""

    seed: int

    def __new__(cls, index: int, seed: int = 0) -> 'Draw':
        """Index ``index``, with 32 bits of ``seed``."""
        draw = super().__new__(cls, index)
        draw.seed = seed
        return draw

    def __sub__(self, other: int) -> 'Draw':
        """The index inside one dataset of a concatenation: the same draw."""
        return Draw(int(self) - other, self.seed)

    def __mod__(self, other: int) -> 'Draw':
        """The index inside a repeated dataset: the same draw."""
        return Draw(int(self) % other, self.seed)


def mix(*numbers: int) -> int:
    """32 well-mixed bits of some non-negative whole numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@DATA_SAMPLERS.register_module()
class PositionSeededSampler(InfiniteSampler):
    """MMEngine's ``InfiniteSampler`` whose indices know their position in the stream.

    Args:
        *args, **kwargs: See ``mmengine.dataset.InfiniteSampler``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._start = 0

    def skip(self, num_samples: int) -> None:
        """Continue behind the first ``num_samples`` indices of this rank."""
        super().skip(num_samples)
        self._start = num_samples

    def __iter__(self) -> Iterator[int]:
        """Indices of this rank, without end."""
        for position, index in enumerate(super().__iter__(), self._start):
            yield Draw(index, mix(self.seed, position * self.world_size + self.rank))


@TRANSFORMS.register_module()
class SeedFromPosition:
    """First transform of a training pipeline: seeds NumPy and ``random`` from the draw.

    PyTorch's generator is left alone: with no worker processes it is the model's own.
    """

    def __call__(self, results: dict) -> dict:
        """Seed, and pass ``results`` on; an index from another sampler seeds nothing."""
        draw = results.get('sample_idx')
        if isinstance(draw, Draw):
            np.random.seed(draw.seed)
            random.seed(draw.seed)
        return results
