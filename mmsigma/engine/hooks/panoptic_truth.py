"""The truth beside panoptic predictions that are drawn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.structures import PixelData

from mmsigma.datasets.panoptic import INSTANCE_OFFSET, read
from mmsigma.registry import HOOKS


@HOOKS.register_module()
class PanopticTruthHook(Hook):
    """Gives what is drawn next its true panoptic map; mmdet's pipelines load none to draw.

    The test pipeline packs ``seg_map_path`` and ``segments_info``, as ``PanopticQuality`` needs
    them. Crowds are drawn, too.
    """

    priority = 'HIGH'  # before pictures are drawn

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Add ``gt_panoptic_seg`` to the image that will be drawn: the first of some batches."""
        step = runner.iter + batch_idx
        if any(draws(hook) and step % hook.interval == 0 for hook in runner.hooks):
            self._add(runner, (outputs or ())[:1])

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Add ``gt_panoptic_seg`` to all images, where they are drawn."""
        if any(map(draws, runner.hooks)):
            self._add(runner, outputs or ())

    def _add(self, runner: Any, samples: Sequence[Any]) -> None:
        classes = len((runner.visualizer.dataset_meta or {}).get('classes', ()))
        for sample in samples:
            found = sample.metainfo.get('segments_info')
            if not found:  # an image without published truth, or without any
                continue
            ids = read(sample.seg_map_path)
            panoptic = np.full(ids.shape, classes)  # mmdet's label of what is void
            for number, segment in enumerate(found, 1):
                panoptic[ids == segment['id']] = segment['category'] + INSTANCE_OFFSET * number
            if (panoptic != classes).any():  # mmdet cannot draw a map without any segment
                sample.gt_panoptic_seg = PixelData(sem_seg=panoptic[None])


def draws(hook: Hook) -> bool:
    """Whether a hook is mmdet's ``DetVisualizationHook``, and on."""
    return type(hook).__name__ == 'DetVisualizationHook' and hook.draw
