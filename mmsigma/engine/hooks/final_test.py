"""Evaluates the test split once, after training."""

from typing import Any

from mmengine.hooks import Hook

from mmsigma.registry import HOOKS


@HOOKS.register_module()
class FinalTestHook(Hook):
    """Runs the test loop when training is complete.

    Selection (of a learning rate, of the best checkpoint) happens on the validation split during
    training; the test split is looked at once, with the last weights.
    """

    priority = 'LOWEST'

    def after_train(self, runner: Any) -> None:
        """Run ``test_dataloader`` through ``test_evaluator``."""
        if runner.test_loop is None:
            return
        # mmseg's and mmdet's visualisation hooks draw every test image, a second each; pictures
        # come from validation, or from tools/test.py --show-dir.
        drawing = [hook for hook in runner.hooks if getattr(hook, 'draw', False)]
        for hook in drawing:
            hook.draw = False
        try:
            runner.test_loop.run()
        finally:
            for hook in drawing:
                hook.draw = True
