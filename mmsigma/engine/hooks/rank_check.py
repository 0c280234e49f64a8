"""Compares what the processes of a job are about to read."""

from typing import Any

from mmengine.dist import all_gather_object, get_world_size
from mmengine.hooks import Hook

from mmsigma.engine.distributed.checks import check_shares
from mmsigma.engine.hooks.final_test import FinalTestHook
from mmsigma.registry import HOOKS


@HOOKS.register_module()
class RankCheckHook(Hook):
    """Refuses data sets that do not give every process the same number of steps.

    ``_base_/runtime`` has it for every run; with one process it does nothing.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self.trained = False

    def before_train(self, runner: Any) -> None:
        """Check all the run reads; see :func:`~mmsigma.engine.distributed.checks.check_shares`."""
        if get_world_size() == 1:  # and what is not needed yet is not built
            return
        self.trained = True
        self._check('train_dataloader', runner.train_loop, trains=True)
        self._check('val_dataloader', runner.val_loop)
        if any(isinstance(hook, FinalTestHook) for hook in runner.hooks):
            self._check('test_dataloader', runner.test_loop)

    def before_val(self, runner: Any) -> None:
        """Check the validation set, unless training has begun with that."""
        if not self.trained:
            self._check('val_dataloader', runner.val_loop)

    def before_test(self, runner: Any) -> None:
        """Check the test set, unless training has begun with that."""
        if not self.trained:
            self._check('test_dataloader', runner.test_loop)

    def _check(self, name: str, loop: Any, trains: bool = False) -> None:
        if loop is None or get_world_size() == 1:
            return
        share = len(loop.dataloader.dataset), len(loop.dataloader)
        check_shares(name, all_gather_object(share), trains)
