"""Randomness of the model as a function of (seed, iteration, rank)."""

from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook

from mmsigma.datasets.position_seed import mix
from mmsigma.registry import HOOKS


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seeds PyTorch before every training iteration.

    Dropout and drop path then depend on nothing that came before: a resumed run draws what the
    uninterrupted run draws, whether or not an evaluation, which may use the generator, lay between.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed all devices; about ten microseconds."""
        torch.manual_seed(mix(runner.seed or 0, runner.iter, get_rank()))
