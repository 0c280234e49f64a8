"""The same data in the same order with the same augmentation, wherever a run begins."""

import copy
import pickle
import random
from itertools import islice

import numpy as np
import pytest
from mmengine.dataset import (
    BaseDataset,
    ConcatDataset,
    InfiniteSampler,
    RepeatDataset,
    pseudo_collate,
)
from torch.utils.data import DataLoader

from mmsigma.datasets import PositionSeededSampler, SeedFromPosition
from mmsigma.datasets.position_seed import Draw, mix

SIZE = 7


class Augment:
    """What a random transform does with NumPy's and Python's generators."""

    def __call__(self, results):
        index = int(results['sample_idx'])
        return index, int(np.random.randint(2**31)), random.getrandbits(31)


class Dataset(BaseDataset):
    def load_data_list(self):
        return [{'img_path': str(i)} for i in range(SIZE)]


def dataset(wrap=None):
    def plain():
        return Dataset(ann_file='', pipeline=[SeedFromPosition(), Augment()], serialize_data=False)

    if wrap == 'repeat':
        return RepeatDataset(plain(), times=2)
    return ConcatDataset([plain(), plain()]) if wrap == 'concat' else plain()


def stream(count, workers=0, skip=0, wrap=None, batch=3, seed=5):
    """The first samples of a training loader."""
    data = dataset(wrap)
    sampler = PositionSeededSampler(data, shuffle=True, seed=seed)
    if skip:
        sampler.skip(skip)
    loader = DataLoader(
        data, batch_size=batch, sampler=sampler, num_workers=workers, collate_fn=pseudo_collate
    )
    batches = islice(iter(loader), -(-count // batch))
    return [tuple(sample) for rows in batches for sample in zip(*rows, strict=True)][:count]


@pytest.mark.parametrize('shuffle', [True, False])
def test_order_is_the_infinite_samplers(shuffle):
    arguments = dict(dataset=range(SIZE), shuffle=shuffle, seed=3)
    own = list(islice(PositionSeededSampler(**arguments), 30))
    assert own == list(islice(InfiniteSampler(**arguments), 30))
    assert all(isinstance(index, Draw) for index in own)
    assert len({index.seed for index in own}) == 30


@pytest.mark.parametrize('skip', [0, 1, 10])
def test_skip(skip):
    def sampler():
        return PositionSeededSampler(range(SIZE), seed=3)

    late = sampler()
    late.skip(skip)
    whole = list(islice(sampler(), skip + 9))[skip:]
    assert [(int(i), i.seed) for i in islice(late, 9)] == [(int(i), i.seed) for i in whole]


def test_ranks_share_the_order_but_no_seed(monkeypatch):
    whole = list(islice(PositionSeededSampler(range(SIZE), seed=3), 20))
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        parts.append(list(islice(PositionSeededSampler(range(SIZE), seed=3), 10)))
    merged = [draw for pair in zip(*parts, strict=True) for draw in pair]
    assert [(int(i), i.seed) for i in merged] == [(int(i), i.seed) for i in whole]


@pytest.mark.parametrize('wrap', [None, 'repeat', 'concat'])
def test_augmentation_depends_on_neither_workers_nor_restarts(wrap):
    whole = stream(18, wrap=wrap)
    assert stream(18, wrap=wrap) == whole
    assert stream(18, workers=2, wrap=wrap) == whole
    assert stream(9, skip=9, wrap=wrap) == whole[9:]
    assert stream(18, wrap=wrap, seed=6) != whole
    # The same image is augmented differently each time it comes.
    assert len({tuple(numbers) for _, *numbers in whole}) == 18


def repickled(draw):
    """As it reaches a worker process."""
    return pickle.loads(pickle.dumps(draw))


@pytest.mark.parametrize('carry', [copy.copy, copy.deepcopy, repickled])
def test_a_draw_keeps_its_seed(carry):
    draw = carry(Draw(3, 99))
    assert (draw, draw.seed, type(draw)) == (3, 99, Draw)


@pytest.mark.parametrize('draw', [Draw(17, 99) - 7, Draw(17, 99) % 7])
def test_a_draw_keeps_its_seed_in_wrappers(draw):
    assert (draw.seed, type(draw)) == (99, Draw)


def test_the_transform_seeds_numpy_and_random_alone():
    def numbers(index):
        results = {'sample_idx': index, 'other': 1}
        assert SeedFromPosition()(results) is results
        return np.random.rand(), random.random()

    assert numbers(Draw(0, 4)) == numbers(Draw(1, 4))
    assert numbers(Draw(0, 4)) != numbers(Draw(0, 5))
    # A plain index, as from another sampler, seeds nothing.
    numbers(Draw(0, 4))
    assert numbers(0) != numbers(0)
    assert SeedFromPosition()({}) == {}


def test_mix():
    assert 0 <= mix(0) < 2**32
    assert len({mix(a, b) for a in range(20) for b in range(20)}) == 400
