"""DeepSpeed's ZeRO trains as DDP does; runs where DeepSpeed is installed."""

from importlib.util import find_spec

import pytest
import torch

from tests.engine.distributed.jobs import ITERS, Job, arguments, exact
from tests.fixtures import load, logged

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec('deepspeed') is None,
        reason="DeepSpeed is not installed: pip install 'deepspeed<0.19.7'",
    ),
]

DEEPSPEED = ('--strategy', 'deepspeed')


@pytest.fixture(scope='module')
def trained(place):
    """MMEngine's strategy can be built once in a process: it registers optimisers."""
    config = exact(place)
    Job(place, arguments(config, 'ddp', 2), arguments(config, 'zero', 2, more=DEEPSPEED)).done()
    half = place.root / 'zero/iter_4.pth'
    Job(place, arguments(config, 'resumed', 2, more=(*DEEPSPEED, '--resume', half))).done()
    return place.root


@pytest.mark.parametrize(('name', 'begin'), [('zero', 1), ('resumed', 5)])
def test_same_losses_and_weights(trained, name, begin):
    """And a checkpoint of what trains alone."""
    losses = {step: x for step, x in logged(trained / 'ddp').items() if step >= begin}
    assert list(losses) == list(range(begin, ITERS + 1))
    assert logged(trained / name) == pytest.approx(losses, abs=1e-6)
    expected = load(trained / f'ddp/iter_{ITERS}.pth')['state_dict']
    file = trained / f'{name}/iter_{ITERS}.pth/mp_rank_00_model_states.pt'
    found = load(file)['module']
    assert found.keys() == expected.keys()
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-6)


def test_the_best_is_a_file_for_every_strategy(trained):
    best = [load(trained / name / 'best_mIoU_iter_3.pth') for name in ('zero', 'ddp')]
    assert best[0]['state_dict'].keys() == best[1]['state_dict'].keys()
