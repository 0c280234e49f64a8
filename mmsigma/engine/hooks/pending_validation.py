"""Makes up for the validation that a killed run did not come to."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop

from mmsigma.registry import HOOKS


@HOOKS.register_module()
class PendingValidationHook(Hook):
    """Evaluates the checkpoint that a run goes on from where a validation is due at its step.

    A checkpoint is saved before its step is validated. MMEngine resumes at the step behind it, so
    the curve of a run that was killed in between would lack a validation, maybe the last. One
    that had been complete gives the same values again.

    ``_base_/runtime`` has it for every run.
    """

    priority = 'LOWEST'  # all other hooks are ready

    def before_train(self, runner: Any) -> None:
        """Validate if a validation is due at the step that is resumed from."""
        loop = runner.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        done = loop.epoch if by_epoch else loop.iter
        if runner.val_loop is None or not done or done < loop.val_begin:
            return
        last = loop.max_epochs if by_epoch else loop.max_iters
        loop._decide_current_val_interval()  # intervals that change with the step
        if done % loop.val_interval == 0 or done == last:
            runner.val_loop.run()
