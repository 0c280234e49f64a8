"""Every process evaluates the model that process 0 saves."""

from typing import Any

from mmengine.dist import broadcast, get_world_size
from mmengine.hooks import Hook
from torch.nn.modules.batchnorm import _NormBase

from mmsigma.registry import HOOKS


@HOOKS.register_module()
class SameBuffersHook(Hook):
    """Sends process 0's running statistics of batch norms to all, before each evaluation.

    Each process has statistics of its own images; a checkpoint holds those of process 0. Metrics
    that all processes compute together are then the checkpoint's. With ``sync_bn`` the statistics
    are the same anyway.

    ``_base_/runtime`` has it for every run; with one process it does nothing.
    """

    priority = 'VERY_HIGH'

    def before_val_epoch(self, runner: Any) -> None:
        """Send the statistics."""
        if get_world_size() == 1:
            return
        for module in runner.model.modules():
            if isinstance(module, _NormBase):
                for buffer in module.buffers(recurse=False):
                    broadcast(buffer)

    before_test_epoch = before_val_epoch
