"""Stops at the first loss that is infinite or NaN."""

from typing import Any

import torch
from mmengine.hooks import Hook

from mmsigma.errors import NonFiniteLossError
from mmsigma.registry import HOOKS

_ADVICE = (
    'Checkpoints in {} are from before. Lower the learning rate, clip gradients '
    '(optim_wrapper.clip_grad), or train without fp16, and --resume.'
)


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Raises in the very iteration, and lets no checkpoint hold broken weights.

    With a loss scaler (fp16 AMP) skipped steps are normal and the loss itself stays finite.
    """

    priority = 'VERY_HIGH'

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Check every loss of the iteration.

        Raises:
            NonFiniteLossError: With the iteration, the losses and the learning rate.
        """
        losses = {
            name: float(value.detach())
            for name, value in (outputs or {}).items()
            if 'loss' in name and isinstance(value, torch.Tensor) and value.numel() == 1
        }
        if all(torch.isfinite(torch.tensor(list(losses.values())))):
            return
        rates = runner.optim_wrapper.get_lr()
        raise NonFiniteLossError(
            f'The loss is not finite at iteration {runner.iter + 1}: {losses}; learning rates '
            f'{ {k: v[0] for k, v in rates.items()} }. Nothing was saved from this iteration. '
            f'{_ADVICE.format(runner.work_dir)}'
        )

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Check the weights: a finite loss may still have had a gradient that was not.

        Raises:
            NonFiniteLossError: With the names of the weights; nothing is written.
        """
        broken = [
            name
            for name, value in checkpoint['state_dict'].items()
            if value.is_floating_point() and not torch.isfinite(value).all()
        ]
        if broken:
            raise NonFiniteLossError(
                f'After iteration {runner.iter + 1}, {len(broken)} weights are infinite or NaN '
                f'({", ".join(broken[:3])}), so they are not saved. '
                f'{_ADVICE.format(runner.work_dir)}'
            )
