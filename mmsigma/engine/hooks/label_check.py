"""Reads some label files before they are needed."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop

from mmsigma.datasets.check import check_labels
from mmsigma.datasets.coco_check import check_heads
from mmsigma.engine.hooks.final_test import FinalTestHook
from mmsigma.registry import HOOKS


@HOOKS.register_module()
class LabelCheckHook(Hook):
    """Compares label images with the classes, and the classes with the heads.

    Args:
        samples: Label files to read of each split, evenly spaced; some milliseconds each.
    """

    def __init__(self, samples: int = 1000) -> None:
        self.samples = samples
        self.trained = False

    def before_train(self, runner: Any) -> None:
        """Check what the run will read; see :func:`mmsigma.datasets.check.check_labels`."""
        self.trained = True
        self._check(runner, runner.train_loop)
        self._check(runner, runner.val_loop)
        if any(isinstance(hook, FinalTestHook) for hook in runner.hooks):
            self._check(runner, runner.test_loop)

    def before_test(self, runner: Any) -> None:
        """Check the test set, unless training has begun with that."""
        if not self.trained:
            self._check(runner, runner.test_loop)

    def _check(self, runner: Any, loop: BaseLoop | None) -> None:
        if loop is None:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        head = getattr(model, 'decode_head', None)
        dataset = loop.dataloader.dataset
        classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
        if head is None and classes:
            heads = {
                name: module.num_classes
                for name, module in model.named_modules()
                # Region proposals know no classes; a backbone's are those of its pretraining.
                if isinstance(getattr(module, 'num_classes', None), int)
                and 'rpn' not in name
                and not name.startswith('backbone.')
            }
            check_heads(classes, heads)
        read = check_labels(dataset, getattr(head, 'num_classes', None), self.samples)
        if read:
            runner.logger.info(f'{type(loop).__name__}: {read} label files fit their classes.')
