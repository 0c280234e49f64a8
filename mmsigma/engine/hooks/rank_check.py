"""Compares what the processes of a job are about to read."""

from typing import Any

from mmengine.dist import all_gather_object, get_world_size
from mmengine.runner import BaseLoop

from mmsigma.engine.distributed.checks import check_shares
from mmsigma.engine.hooks.loop_check import LoopCheckHook
from mmsigma.registry import HOOKS


@HOOKS.register_module()
class RankCheckHook(LoopCheckHook):
    """Refuses data sets that do not give every process the same number of steps.

    ``_base_/runtime`` has it for every run; with one process it does nothing.
    """

    priority = 'VERY_HIGH'

    def check(self, runner: Any, name: str, loop: BaseLoop) -> None:
        """Check a loop; see :func:`~mmsigma.engine.distributed.checks.check_shares`."""
        if get_world_size() > 1:
            share = len(loop.dataloader.dataset), len(loop.dataloader)
            check_shares(name, all_gather_object(share), trains=name == 'train_dataloader')
