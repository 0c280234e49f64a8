"""Reads some label files before they are needed."""

from collections.abc import Sequence
from typing import Any

from mmengine.runner import BaseLoop

from mmsigma.datasets.agreement import check_agreement
from mmsigma.datasets.label_check import check_labels
from mmsigma.engine.hooks.loop_check import LoopCheckHook
from mmsigma.registry import HOOKS


@HOOKS.register_module()
class LabelCheckHook(LoopCheckHook):
    """Compares label images with the classes, and the classes with the heads.

    Args:
        samples: Label files to read of each dataset, evenly spaced; some milliseconds each.
        absent: Names of classes that need no pixel in the training set. Any other that has none
            in all of the label files is an error, and a warning where some of them were read.
    """

    def __init__(self, samples: int = 1000, absent: Sequence[str] = ()) -> None:
        super().__init__()
        self.samples = samples
        self.absent = absent

    def check(self, runner: Any, name: str, loop: BaseLoop) -> None:
        """Check what a loop reads.

        See :func:`mmsigma.datasets.agreement.disagreements`, and
        :func:`mmsigma.datasets.label_check.check_labels`.
        """
        check_agreement(runner.cfg, name)
        model = runner.cfg.get('model') or {}
        absent = self.absent if name == 'train_dataloader' else None
        read = check_labels(loop.dataloader.dataset, model, self.samples, absent)
        if read:
            runner.logger.info(f'{type(loop).__name__}: {read} label files fit their classes.')
