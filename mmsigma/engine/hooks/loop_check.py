"""What is checked once of everything that a run is about to read."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop

from mmsigma.engine.hooks.final_test import FinalTestHook


class LoopCheckHook(Hook):
    """Calls :meth:`check` with each loop of a run before the first one begins."""

    def __init__(self) -> None:
        self.trained = False

    def check(self, runner: Any, name: str, loop: BaseLoop) -> None:
        """Check what a loop reads; ``name`` is that of its data loader in the config."""
        raise NotImplementedError

    def before_train(self, runner: Any) -> None:
        """Check the training set, the validation set, and the test set of a final test."""
        self.trained = True
        self._check(runner, 'train')
        self._check(runner, 'val')
        if any(isinstance(hook, FinalTestHook) for hook in runner.hooks):
            self._check(runner, 'test')

    def before_val(self, runner: Any) -> None:
        """Check the validation set, unless training has begun with that."""
        if not self.trained:
            self._check(runner, 'val')

    def before_test(self, runner: Any) -> None:
        """Check the test set, unless training has begun with that."""
        if not self.trained:
            self._check(runner, 'test')

    def _check(self, runner: Any, split: str) -> None:
        loop = getattr(runner, f'{split}_loop')
        if loop is not None:
            self.check(runner, f'{split}_dataloader', loop)
