"""Logs the loss of the whole batch, not of process 0."""

from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook

from mmsigma.registry import HOOKS


@HOOKS.register_module()
class MeanLossHook(Hook):
    """Replaces every loss of a step by its mean over the processes, before it is logged.

    The curve is then that of one process with the same global batch, and a loss that is not finite
    stops every process in the same step. It takes one all-reduce of a few numbers a step.

    ``_base_/runtime`` has it for every run; with one process it does nothing.
    """

    priority = 'HIGHEST'

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Average what the model returned for the log, in place."""
        if not outputs or get_world_size() == 1:
            return
        names = sorted(
            name
            for name, value in outputs.items()
            if isinstance(value, torch.Tensor) and value.numel() == 1
        )
        if names:
            values = torch.stack([outputs[name].detach().float().reshape(()) for name in names])
            all_reduce(values, op='mean')
            for name, value in zip(names, values, strict=True):
                outputs[name] = value.reshape(outputs[name].shape).to(outputs[name].dtype)
