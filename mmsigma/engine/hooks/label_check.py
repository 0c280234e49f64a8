"""Reads some label files before they are needed."""

from typing import Any

from mmengine.runner import BaseLoop

from mmsigma.datasets.check import check_labels
from mmsigma.engine.hooks.loop_check import LoopCheckHook
from mmsigma.registry import HOOKS


@HOOKS.register_module()
class LabelCheckHook(LoopCheckHook):
    """Compares label images with the classes, and the classes with the heads.

    Args:
        samples: Label files to read of each split, evenly spaced; some milliseconds each.
    """

    def __init__(self, samples: int = 1000) -> None:
        super().__init__()
        self.samples = samples

    def check(self, runner: Any, name: str, loop: BaseLoop) -> None:
        """Check what a loop reads; see :func:`mmsigma.datasets.check.check_labels`."""
        model = runner.cfg.get('model') or {}
        read = check_labels(loop.dataloader.dataset, model, self.samples)
        if read:
            runner.logger.info(f'{type(loop).__name__}: {read} label files fit their classes.')
