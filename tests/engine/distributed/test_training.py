"""Two processes train as one does with the same batch, however the model is shared."""

import time
from importlib.util import find_spec

import pytest
import torch

from tests.engine.distributed.jobs import ITERS, TUNERS, Job, arguments, exact
from tests.fixtures import load, logged

pytestmark = pytest.mark.slow

DDP = ('--strategy', 'ddp')  # SIGMA has it without
FSDP = ('--strategy', 'fsdp')
RESUME = ('--resume',)
# A unit for every module of the tiny trunk.
UNITS = 'strategy.min_params=1'
PARTS = (2, 4, ITERS)  # where a run is stopped and goes on elsewhere
INT8 = "model['backbone']['trunk']['dtype'] = 'int8'\n"

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


def alone(place, work_dir, tuner='SIGMA', extra='', until=ITERS, more=()):
    """Train in this process."""
    line = arguments(exact(place, tuner, extra), work_dir, 1, until=until, more=more)
    assert place.call('train', *line) == 0


@pytest.fixture(scope='module')
def trained(place):
    """Work directories of all runs, in as few processes as can be."""

    def ddp(work_dir, tuner='SIGMA', more=(), extra='', until=ITERS):
        return arguments(exact(place, tuner, extra), work_dir, 2, until=until, more=more)

    def fsdp(work_dir, tuner='SIGMA', more=(), extra='', until=ITERS):
        config = exact(place, tuner, extra)
        return arguments(config, work_dir, 2, UNITS, until=until, more=(*FSDP, *more))

    Job(
        place,
        *(ddp(f'{tuner} ddp', tuner, DDP if tuner != 'SIGMA' else ()) for tuner in TUNERS),
        *(fsdp(f'{tuner} fsdp', tuner) for tuner in TUNERS),
        *(
            (ddp('int8 ddp', extra=INT8), fsdp('int8 fsdp', extra=INT8))
            if find_spec('torchao')
            else ()
        ),
        ddp('moved ddp', until=PARTS[0]),
        fsdp('moved fsdp', until=PARTS[0]),
    ).done()
    for tuner in TUNERS:
        alone(place, f'{tuner} alone', tuner)
    for name in ('moved ddp', 'moved fsdp'):
        alone(place, name, until=PARTS[1], more=RESUME)

    def half(tuner, kind):
        return (*RESUME, place.root / f'{tuner} {kind}/iter_4.pth')

    # Started by SLURM, of which only the environment is here.
    Job(
        place,
        ddp('moved ddp', more=RESUME),
        fsdp('moved fsdp', more=RESUME),
        *(ddp(f'{tuner} from fsdp', tuner, half(tuner, 'fsdp')) for tuner in TUNERS),
        *(fsdp(f'{tuner} from ddp', tuner, half(tuner, 'ddp')) for tuner in TUNERS),
        ddp('slurm'),
        launcher='slurm',
    ).done()
    return place.root


def same(root, first, second, tolerance, begin=1):
    """Compare losses, gradients' norms, validations, last weights and the optimiser's state."""

    def values(name, key):
        return {step: x for step, x in logged(root / name, key).items() if step >= begin}

    assert list(logged(root / first)) == list(range(begin, ITERS + 1))
    for key, size in (('loss', 1), ('grad_norm', 30)):
        expected = pytest.approx(values(second, key), abs=size * tolerance)
        assert values(first, key) == expected, key
    # Three images on two processes: the one that fills up the last round does not count.
    found, expected = values(first, 'mIoU'), values(second, 'mIoU')
    assert {step: found[step] for step in expected} == expected
    assert list(expected) == [step for step in (3, ITERS) if step >= begin]
    one, other = (load(root / name / f'iter_{ITERS}.pth') for name in (first, second))
    assert one['state_dict'].keys() == other['state_dict'].keys()
    for name, value in one['state_dict'].items():
        torch.testing.assert_close(value, other['state_dict'][name], rtol=0, atol=tolerance)
    states = one['optimizer']['state'], other['optimizer']['state']
    assert states[0].keys() == states[1].keys()
    for number, values in states[0].items():
        for key, value in values.items():
            torch.testing.assert_close(value, states[1][number][key], rtol=0, atol=tolerance)


@pytest.mark.parametrize('tuner', TUNERS)
def test_two_processes_train_as_one(trained, tuner):
    same(trained, f'{tuner} ddp', f'{tuner} alone', 1e-6)
    # What the tuner trains has moved by so much more that a difference would show.
    early, late = (load(trained / f'{tuner} ddp/iter_{i}.pth')['state_dict'] for i in (4, ITERS))
    names = [n for n in late if n.startswith('backbone.') and late[n].is_floating_point()]
    assert max((late[n] - early[n]).abs().max() for n in names) > 2e-5


@pytest.mark.parametrize('tuner', TUNERS)
def test_shards_train_as_whole_models(trained, tuner):
    same(trained, f'{tuner} fsdp', f'{tuner} alone', 1e-5)
    same(trained, f'{tuner} fsdp', f'{tuner} ddp', 1e-5)


def test_shards_of_a_trunk_in_int8(trained):
    pytest.importorskip('torchao')
    same(trained, 'int8 fsdp', 'int8 ddp', 1e-5)
    losses = [logged(trained / name)[1] for name in ('int8 ddp', 'SIGMA ddp')]
    assert losses[0] != losses[1]  # the trunk was rounded


@pytest.mark.parametrize('strategy', ['ddp', 'fsdp'])
def test_resumed_on_another_number_of_processes(trained, strategy):
    """Two, one and two processes."""
    same(trained, f'moved {strategy}', 'SIGMA alone', 1e-6 if strategy == 'ddp' else 1e-5)


@pytest.mark.parametrize('tuner', TUNERS)
@pytest.mark.parametrize('strategy', ['ddp', 'fsdp'])
def test_resumed_with_the_other_strategy(trained, tuner, strategy):
    same(trained, f'{tuner} from {strategy}', f'{tuner} alone', 1e-5, begin=5)


@pytest.mark.parametrize('launcher', ['slurm', 'mpi'])
def test_launchers_train_alike(trained, resumed, launcher):
    same(trained, launcher, 'SIGMA ddp', 1e-6)


def test_checkpoints_hold_what_trains_once(trained):
    for kind in ('ddp', 'fsdp', 'alone'):
        folder = trained / f'SIGMA {kind}'
        assert sorted(p.name for p in folder.glob('iter_*')) == ['iter_4.pth', 'iter_6.pth']
        assert (folder / 'last_checkpoint').read_text().endswith('iter_6.pth')
        state = load(folder / 'iter_6.pth')['state_dict']
        assert not any(name.startswith('backbone.trunk.') for name in state)
        assert all(type(value) is torch.Tensor for value in state.values())


@pytest.fixture(scope='module')
def resumed(place, trained):
    """What two jobs said of which a process was killed, by strategy; then they were resumed."""
    (place.root / 'killer.py').write_text(KILLER)
    config = exact(place, extra=WITH_KILLER)
    jobs = {
        'ddp': Job(place, arguments(config, 'killed ddp', 2)),
        'fsdp': Job(place, arguments(config, 'killed fsdp', 2, UNITS, more=FSDP)),
    }
    said = {}
    for name, job in jobs.items():
        job.processes[1].wait(600)
        killed = time.monotonic()
        said[name] = *job.wait(), time.monotonic() - killed, max(logged(trained / f'killed {name}'))
    alone(place, 'killed ddp', more=RESUME)
    Job(
        place,
        arguments(exact(place), 'killed fsdp', 2, UNITS, more=(*FSDP, *RESUME)),
        arguments(exact(place), 'mpi', 2),
        launcher='mpi',
    ).done()
    return said


@pytest.mark.parametrize('strategy', ['ddp', 'fsdp'])
def test_a_killed_process_ends_the_job_which_resumes(trained, resumed, strategy):
    (survivor,), (gone,), seconds, last = resumed[strategy]
    assert seconds < 60
    assert gone.status == -9
    assert survivor.status == 1
    assert 'lost its connection to another process' in survivor.output
    assert '--resume' in survivor.output and 'Traceback' not in survivor.output
    assert last == 4
    same(trained, f'killed {strategy}', 'SIGMA alone', 1e-6 if strategy == 'ddp' else 1e-5)
