"""A run that is asked to stop loses nothing but the step in flight, and that only if killed."""

import multiprocessing
import os
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import EpochBasedTrainLoop

from mmsigma.engine.hooks import StopHook
from mmsigma.errors import StoppedError
from tests.fixtures import load, logged
from tests.sample import sampled

ITERS, VALIDATION = 10, 4

# Sends itself a signal in the middle of a step, a validation or the final test, as
# MMSIGMA_SIGNAL=<when>:<iteration>:<signal> says; with SIGTERM to all processes, as SLURM does.
SENDER = """
import os
import signal
import subprocess

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module(force=True)
class SendSignalHook(Hook):
    def _send(self, now, runner):
        when, step, name = os.environ['MMSIGMA_SIGNAL'].split(':')
        if when == now and int(step) == runner.iter + (when == 'train'):
            number = getattr(signal, name)
            if number == signal.SIGTERM:
                subprocess.run(['kill', '-TERM', '--', f'-{os.getpgrp()}'], start_new_session=True)
            else:
                os.kill(os.getpid(), number)

    def before_train_iter(self, runner, **kwargs):
        self._send('train', runner)

    def before_val_iter(self, runner, batch_idx, **kwargs):
        if batch_idx == 1:
            self._send('val', runner)

    def before_test_iter(self, runner, **kwargs):
        self._send('test', runner)
"""
WITH_SENDER = """
custom_imports = dict(imports=['mmsigma', 'sender'], allow_failed_imports=False)
custom_hooks = [dict(type='SendSignalHook'), *_base_.custom_hooks]
"""
WORKERS = """
train_dataloader.update(num_workers=2, persistent_workers=True)
val_dataloader.update(num_workers=1, persistent_workers=True)
"""


@pytest.fixture(autouse=True)
def ctrl_c():
    """Ctrl-C as at a terminal: what runs in the background may have been started to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope='module')
def whole(place):
    """The losses, validations and last weights of the uninterrupted run."""
    (place.root / 'sender.py').write_text(SENDER)
    config = place.config(iters=ITERS, interval=3)
    assert place.call('train', config, '--work-dir', 'whole') == 0
    return result(place.root / 'whole')


def result(work_dir):
    state = load(work_dir / f'iter_{ITERS}.pth')
    return logged(work_dir), logged(work_dir, 'mIoU'), state['state_dict'], state['optimizer']


def stop(place, work_dir, when, monkeypatch):
    """Run until the signal, in this process; the exit status."""
    monkeypatch.syspath_prepend(place.root)
    monkeypatch.setenv('MMSIGMA_SIGNAL', when)
    config = place.config(WITH_SENDER, iters=ITERS, interval=3)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)]
    status = place.call('train', config, '--work-dir', work_dir)
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)]
    return status


def go_on(place, work_dir, whole):
    """Resume, and compare with the uninterrupted run, to the bit."""
    config = place.config(iters=ITERS, interval=3)
    time.sleep(1.1)  # MMEngine names logs by the second
    assert place.call('train', config, '--work-dir', work_dir, '--resume') == 0
    losses, validations, weights, optimizer = result(place.root / work_dir)
    assert (losses, validations) == whole[:2]
    assert all(torch.equal(value, whole[2][name]) for name, value in weights.items()
               if isinstance(value, torch.Tensor))  # fmt: skip
    for index, state in optimizer['state'].items():
        assert all(torch.equal(v, whole[3]['state'][index][k]) for k, v in state.items())


# Where the signal comes, and the checkpoint then.
STOPS = {
    'in a step': ('train:5:SIGUSR1', 5),
    'in a step that is validated': ('train:8:SIGINT', 8),
    'in a validation': ('val:4:SIGUSR1', 4),
    'in the last validation': ('val:10:SIGINT', 10),
    'in the final test': ('test:10:SIGUSR1', 10),
}


@pytest.mark.parametrize('name', sampled(STOPS, lambda name: name != 'in a step that is validated'))
def test_stopped_and_resumed_is_the_uninterrupted_run(place, whole, name, monkeypatch, capsys):
    when, step = STOPS[name]
    work_dir = f'stopped {name}'
    assert stop(place, work_dir, when, monkeypatch) == 75
    assert f'Stopped by {when.rpartition(":")[2]}' in capsys.readouterr().err
    assert (place.root / work_dir / 'last_checkpoint').read_text().endswith(f'iter_{step}.pth')
    go_on(place, work_dir, whole)
    assert list(logged(place.root / work_dir, last_run=True)) == list(range(step + 1, ITERS + 1))


def test_workers_survive_a_signal_to_the_whole_group(place, whole):
    work_dir = place.root / 'group'
    config = place.config(WITH_SENDER + WORKERS, iters=ITERS, interval=3)
    env = {'MMSIGMA_SIGNAL': 'train:5:SIGTERM', 'PYTHONPATH': str(place.root)}
    process = place.start('train', config, '--work-dir', work_dir, session=True, **env)
    done = process.finish()
    assert done.returncode == 75, done.stderr
    assert (work_dir / 'last_checkpoint').read_text().endswith('iter_5.pth')
    go_on(place, 'group', whole)


def test_a_run_killed_before_its_last_validation_makes_up_for_it(place, whole):
    """The state that SIGKILL leaves between the last checkpoint and its validation."""
    config = place.config(iters=ITERS, interval=3)
    options = ['--cfg-options', 'val_dataloader=None', 'val_cfg=None', 'val_evaluator=None',
               'test_dataloader=None', 'test_cfg=None', 'test_evaluator=None']  # fmt: skip
    assert place.call('train', config, '--work-dir', 'unvalidated', *options) == 0
    assert logged(place.root / 'unvalidated', 'mIoU') == {}
    config = place.config(iters=ITERS, interval=3)
    assert place.call('train', config, '--work-dir', 'unvalidated', '--resume') == 0
    found, wanted = (logged(place.root / d, 'mIoU') for d in ('unvalidated', 'whole'))
    assert found == {10: wanted[10]}
    assert len(list((place.root / 'unvalidated').glob('best_mIoU_iter_10.pth'))) == 1


@pytest.mark.slow
def test_processes_forked_meanwhile_can_be_ended():
    """mmdet's VOCMetric ends a pool by SIGTERM and waits for it, forever if that is caught."""
    hook = StopHook()
    hook.before_train(SimpleNamespace(train_dataloader=None, val_dataloader=None, val_loop=None))
    try:
        context = multiprocessing.get_context('fork')
        # Late, and before it has run at all, which Python's own handlers do not live to see.
        for pause in [0.5, *[0.0] * 100]:
            process = context.Process(target=time.sleep, args=(60,))
            process.start()
            time.sleep(pause)
            process.terminate()
            process.join(20)
            ended = process.exitcode
            process.kill()
            assert ended == -signal.SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)
        assert hook.asked == 'SIGTERM'  # it is the parent's own, still
    finally:
        hook.after_run(None)


@pytest.mark.parametrize('saved', [True, False])
def test_what_it_goes_on_from_is_said_if_there_is_something(tmp_path, saved):
    """A loop of epochs saves nothing in the middle of one."""
    if saved:
        torch.save({}, tmp_path / 'epoch_1.pth')
    loop = object.__new__(EpochBasedTrainLoop)
    runner = SimpleNamespace(train_loop=loop, hooks=[], work_dir=tmp_path)
    words = rf'from {tmp_path}/epoch_1\.pth' if saved else 'No checkpoint was saved before'
    with pytest.raises(StoppedError, match=words):
        StopHook()._stop(runner, 3)
