"""Stops at the first loss that is infinite or NaN."""

from typing import Any

import torch
from mmengine.hooks import Hook

from mmsigma.errors import NonFiniteLossError
from mmsigma.registry import HOOKS


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Raises in the very iteration, before any checkpoint could hold the broken weights.

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
            f'{ {k: v[0] for k, v in rates.items()} }. Nothing was saved from this iteration; the '
            f'last checkpoint in {runner.work_dir} is sound. Lower the learning rate, clip '
            'gradients (optim_wrapper.clip_grad), or train without fp16, and --resume.'
        )
