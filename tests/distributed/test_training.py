"""Two processes train as one does with the same batch, however the model is shared."""

import time

import pytest
import torch

from tests.distributed.jobs import ITERS, TUNERS, Job, arguments, exact
from tests.distributed.many import quick
from tests.fixtures import load, logged

pytestmark = pytest.mark.slow

FSDP = ('--strategy', 'fsdp')
RESUME = ('--resume',)
# A unit for every module of the tiny trunk.
UNITS = 'strategy.min_params=1'
DDP_TUNERS = [name for name in TUNERS if name != 'Full']
FSDP_TUNERS = ['SIGMA', 'LoRA', 'Full']
PARTS = (2, 4, ITERS)  # where a run is stopped and goes on elsewhere

# Ends process 1, as the kernel does when memory is short.
KILLER = """
import os
import signal

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class KillHook(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if os.environ['RANK'] == '1' and runner.iter == 4:
            os.kill(os.getpid(), signal.SIGKILL)
"""
WITH_KILLER = """
custom_imports = dict(imports=['mmsigma', 'killer'], allow_failed_imports=False)
custom_hooks = [dict(type='KillHook'), *_base_.custom_hooks]
"""


def alone(place, tuner, work_dir, until=ITERS, more=()):
    """Train in this process."""
    line = arguments(exact(place, tuner), work_dir, 1, until=until, more=more)
    with quick():
        assert place.call('train', *line) == 0


@pytest.fixture(scope='module')
def trained(place):
    """Work directories of all runs, in as few processes as can be."""
    first = [arguments(exact(place, t), f'{t} ddp', 2) for t in DDP_TUNERS]
    first += [arguments(exact(place, t), f'{t} fsdp', 2, UNITS, more=FSDP) for t in FSDP_TUNERS]
    first += [arguments(exact(place), 'moved ddp', 2, until=PARTS[0])]
    first += [arguments(exact(place), 'moved fsdp', 2, UNITS, until=PARTS[0], more=FSDP)]
    first += [arguments(exact(place), 'from fsdp', 2, UNITS, until=PARTS[1], more=FSDP)]
    first += [arguments(exact(place), 'from ddp', 2, until=PARTS[1])]
    Job(place, *first).done()
    for tuner in TUNERS:
        alone(place, tuner, f'{tuner} alone')
    for name in ('moved ddp', 'moved fsdp'):
        alone(place, 'SIGMA', name, until=PARTS[1], more=RESUME)
    Job(
        place,
        arguments(exact(place), 'moved ddp', 2, more=RESUME),
        arguments(exact(place), 'moved fsdp', 2, UNITS, more=(*FSDP, *RESUME)),
        arguments(exact(place), 'from fsdp', 2, more=RESUME),
        arguments(exact(place), 'from ddp', 2, UNITS, more=(*FSDP, *RESUME)),
    ).done()
    return place.root


def same(root, first, second, tolerance):
    """Compare losses, gradients' norms, validations, last weights and the optimiser's state."""
    assert list(logged(root / first)) == list(range(1, ITERS + 1))
    for key, size in (('loss', 1), ('grad_norm', 30)):
        expected = pytest.approx(logged(root / second, key), abs=size * tolerance)
        assert logged(root / first, key) == expected, key
    # Three images on two processes: the one that fills up the last round does not count.
    found, expected = (logged(root / name, 'mIoU') for name in (first, second))
    assert {step: found[step] for step in expected} == expected and list(expected) == [3, ITERS]
    one, other = (load(root / name / f'iter_{ITERS}.pth') for name in (first, second))
    assert one['state_dict'].keys() == other['state_dict'].keys()
    for name, value in one['state_dict'].items():
        torch.testing.assert_close(value, other['state_dict'][name], rtol=0, atol=tolerance)
    states = one['optimizer']['state'], other['optimizer']['state']
    assert states[0].keys() == states[1].keys()
    for number, values in states[0].items():
        for key, value in values.items():
            torch.testing.assert_close(value, states[1][number][key], rtol=0, atol=tolerance)


@pytest.mark.parametrize('tuner', DDP_TUNERS)
def test_two_processes_train_as_one(trained, tuner):
    same(trained, f'{tuner} ddp', f'{tuner} alone', 1e-6)


@pytest.mark.parametrize('tuner', FSDP_TUNERS)
def test_shards_train_as_whole_models(trained, tuner):
    same(trained, f'{tuner} fsdp', f'{tuner} alone', 1e-5)
    if tuner in DDP_TUNERS:
        same(trained, f'{tuner} fsdp', f'{tuner} ddp', 1e-5)


@pytest.mark.parametrize('name', ['moved ddp', 'moved fsdp', 'from ddp', 'from fsdp'])
def test_resumed_on_another_number_of_processes_or_strategy(trained, name):
    """Two, one and two processes; or DDP's checkpoint by FSDP and the other way round."""
    same(trained, name, 'SIGMA alone', 1e-6 if name == 'moved ddp' else 1e-5)


def test_checkpoints_hold_what_trains_once(trained):
    for kind in ('ddp', 'fsdp', 'alone'):
        folder = trained / f'SIGMA {kind}'
        assert sorted(p.name for p in folder.glob('iter_*')) == ['iter_4.pth', 'iter_6.pth']
        assert (folder / 'last_checkpoint').read_text().endswith('iter_6.pth')
        state = load(folder / 'iter_6.pth')['state_dict']
        assert not any(name.startswith('backbone.trunk.') for name in state)
        assert all(type(value) is torch.Tensor for value in state.values())


def test_a_killed_process_ends_the_job_which_resumes(place, trained):
    (place.root / 'killer.py').write_text(KILLER)
    job = Job(place, arguments(exact(place, extra=WITH_KILLER), 'killed', 2))
    job.processes[1].wait(600)
    killed = time.monotonic()
    (survivor,), (gone,) = job.wait()
    assert time.monotonic() - killed < 60
    assert gone[0] == -9
    status, output = survivor
    assert status == 1
    assert 'lost its connection to another process' in output and '--resume' in output
    assert 'Traceback' not in output
    assert max(logged(trained / 'killed')) == 4
    alone(place, 'SIGMA', 'killed', more=RESUME)
    same(trained, 'killed', 'SIGMA alone', 1e-6)
