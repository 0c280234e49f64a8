"""Lets validation go on where a panoptic prediction is empty."""

from typing import Any

from mmengine.hooks import Hook

from mmsigma.registry import HOOKS


@HOOKS.register_module()
class EmptyPanopticHook(Hook):
    """Takes panoptic maps without any segment out of what is drawn.

    mmdet's visualiser stops the run at such a map, and a model that has just begun to train gives
    them. The metrics have seen it by then.
    """

    priority = 'HIGH'  # before pictures are drawn

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Remove ``pred_panoptic_seg`` where all of it is void."""
        classes = len((runner.visualizer.dataset_meta or {}).get('classes', ()))
        for sample in outputs or ():
            panoptic = getattr(sample, 'pred_panoptic_seg', None)
            if panoptic is not None and bool((panoptic.sem_seg == classes).all()):
                del sample.pred_panoptic_seg

    after_test_iter = after_val_iter
