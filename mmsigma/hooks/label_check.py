"""Reads some label files before training."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from mmsigma.datasets.check import check_labels
from mmsigma.registry import HOOKS


@HOOKS.register_module()
class LabelCheckHook(Hook):
    """Compares label files with the classes, and the classes with the head.

    Args:
        samples: Label files to read, evenly spaced over the training set; some milliseconds each.
    """

    def __init__(self, samples: int = 200) -> None:
        self.samples = samples

    def before_train(self, runner: Any) -> None:
        """Check the training set; see :func:`mmsigma.datasets.check.check_labels`."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        head = getattr(model, 'decode_head', None)
        read = check_labels(
            runner.train_dataloader.dataset, getattr(head, 'num_classes', None), self.samples
        )
        if read:
            runner.logger.info(f'{read} label files of the training set fit its classes.')
