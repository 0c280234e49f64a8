"""Two processes train as one does; the rest is in test_training.py."""

import pytest
import torch

from tests.engine.distributed.jobs import ITERS, Job, arguments, exact
from tests.fixtures import load, logged


def test_two_processes_that_resume_train_as_one(place):
    begin = arguments(exact(place), 'two', 2, until=4)
    Job(place, begin, arguments(exact(place), 'two', 2, more=('--resume',))).done()
    assert place.call('train', *arguments(exact(place), 'one', 1)) == 0
    losses = logged(place.root / 'one')
    assert list(losses) == list(range(1, ITERS + 1))
    assert logged(place.root / 'two') == pytest.approx(losses, abs=1e-6)
    one, two = (
        load(place.root / f'{name}/iter_{ITERS}.pth')['state_dict'] for name in ('one', 'two')
    )
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-6)
