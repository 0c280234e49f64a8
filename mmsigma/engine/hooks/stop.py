"""Stops a run that is asked to end, so that going on later repeats nothing."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce, is_distributed
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop

from mmsigma.engine.hooks.atomic_checkpoint import AtomicCheckpointHook, latest
from mmsigma.errors import StoppedError
from mmsigma.registry import HOOKS

# What terminals, batch systems and tools/grid.py send. SLURM: `#SBATCH --signal=USR1@120`.
SIGNALS = tuple(name for name in ('SIGTERM', 'SIGINT', 'SIGUSR1') if hasattr(signal, name))

# What a hook listens to now, and each thread's mask of signals while it forks.
_listening: set[int] = set()
_mask = threading.local()


@HOOKS.register_module()
class StopHook(Hook):
    """Saves a checkpoint after the step in flight when the process gets a signal, and stops.

    The signals are SIGTERM, SIGINT (Ctrl-C) and SIGUSR1; a second Ctrl-C stops at once. All
    processes of a distributed run stop after the same step, whichever of them got the signal. In
    the middle of an evaluation the last step is saved, and :class:`PendingValidationHook` evaluates
    it anew. Where gradients accumulate, the step in flight is the optimiser's. A run that counts in
    epochs cannot go on in the middle of one, so it saves nothing and goes on from its last epoch.

    ``_base_/runtime`` has it for every run.
    """

    priority = 'LOWEST'  # when all other hooks are done with the step, the checkpoint among them

    def __init__(self) -> None:
        self.asked: str | None = None
        self._previous: dict[str, Any] = {}

    def before_train(self, runner: Any) -> None:
        """Listen to the signals, those left out that the process was started to ignore."""
        if threading.current_thread() is not threading.main_thread():
            return
        for name in SIGNALS:
            number = getattr(signal, name)
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[name] = signal.signal(number, self._ask)
                _listening.add(number)
        loaders = [runner.train_dataloader, runner.val_dataloader if runner.val_loop else None]
        for loader in loaders:
            if getattr(loader, 'num_workers', 0):
                loader.worker_init_fn = _Patient(loader.worker_init_fn)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = self.asked or name
        os.write(2, f'\n{name}: stopping after the step in flight.\n'.encode())

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Save and stop if asked to.

        Raises:
            StoppedError: It was.
        """
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, OptimWrapper) and not wrapper.should_update():
            return
        if self._agreed():
            self._stop(runner, runner.iter + 1)

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save the last step and stop if asked to.

        Raises:
            StoppedError: It was.
        """
        if self._previous and self._agreed():
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):  # averages stand in for weights during evaluation
                    hook.after_val_epoch(runner)
            self._stop(runner, runner.iter)

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Stop the test behind a training; its last step is saved.

        Raises:
            StoppedError: It was asked to.
        """
        if self._previous and self._agreed():
            self._restore()
            raise StoppedError(f'Stopped by {self.asked} in the final test. --resume tests again.')

    def after_run(self, runner: Any) -> None:
        """Give the signals back, when the test behind the training is done, too."""
        self._restore()

    def _agreed(self) -> bool:
        """Whether any process was asked to stop; all of them say the same."""
        if is_distributed():
            flag = torch.tensor([float(self.asked is not None)])
            all_reduce(flag, op='max')
            if flag.item() and not self.asked:
                self.asked = 'a signal to another process'
        return self.asked is not None

    def _stop(self, runner: Any, step: int) -> None:
        self._restore()
        saved = ''
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            for hook in runner.hooks:
                if isinstance(hook, AtomicCheckpointHook) and not hook.by_epoch:
                    hook.save_step(runner, step)
                    saved = f'{hook.last_ckpt}, which repeats nothing'
        saved = saved or str(latest(runner.work_dir) or '')
        rest = f'--resume goes on from {saved}.' if saved else 'No checkpoint was saved before.'
        raise StoppedError(f'Stopped by {self.asked} after iteration {step}. {rest}')

    def _restore(self) -> None:
        for name, handler in self._previous.items():
            signal.signal(getattr(signal, name), handler)
        self._previous = {}
        _listening.clear()


def _before_fork() -> None:
    if _listening:
        _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, _listening)


def _in_parent() -> None:
    if hasattr(_mask, 'before'):
        signal.pthread_sigmask(signal.SIG_SETMASK, _mask.__dict__.pop('before'))


def _in_child() -> None:
    """A forked process, such as one of the pool of ``VOCMetric``, has no step to finish.

    SIGTERM ends it, as its parent expects, who waits for it then; what else is sent to all
    processes of a job is the parent's to answer. Until here signals are held back: Python forgets
    in a fresh process which ones have arrived.
    """
    for number in _listening:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    _listening.clear()
    _in_parent()


if hasattr(os, 'register_at_fork'):  # not on Windows, which does not fork
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)


class _Patient:
    """Start of a loader's worker that does not die of the signal which stops the run.

    Batch systems signal all processes of a job, and a worker that is gone breaks the step in
    flight. Only the process that made the worker may end it.
    """

    def __init__(self, init: Callable[[int], None] | None) -> None:
        self.init = init

    def __call__(self, worker: int) -> None:
        if self.init is not None:
            self.init(worker)
        for name in SIGNALS:
            if name != 'SIGTERM':
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        if hasattr(signal, 'sigwaitinfo'):  # not on macOS, which has no batch systems either
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            threading.Thread(target=self._wait, args=(os.getppid(),), daemon=True).start()

    @staticmethod
    def _wait(parent: int) -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(0)
