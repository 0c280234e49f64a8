"""mmseg's ``IoUMetric``, which gives the IoU of every class besides the means."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS as ROOT_METRICS

from mmsigma.registry import METRICS

BY_CLASS = 'IoU/'


@METRICS.register_module()
class IoUMetric(BaseMetric):
    """The metrics of mmseg's ``IoUMetric``, and ``IoU/<class>`` in percent for every class.

    mmseg prints the values by class and returns their means alone. A class that neither truth nor
    predictions hold is NaN. In a config it takes the place of mmseg's by its ``type``.

    Args:
        collect_device: See ``mmengine.evaluator.BaseMetric``.
        prefix: The same.
        **settings: Of mmseg's ``IoUMetric``.
    """

    def __init__(
        self, collect_device: str = 'cpu', prefix: str | None = None, **settings: Any
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.metric: Any = ROOT_METRICS.build({**settings, 'type': 'mmseg.IoUMetric'})
        self.metric.results = self.results  # what it makes of a batch is this metric's to collect

    @property
    def dataset_meta(self) -> dict | None:
        """What the data set says of itself."""
        return self.metric.dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict) -> None:
        self.metric.dataset_meta = meta

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Compare the predictions ``(H, W)`` of a batch with the truth."""
        self.metric.process(data_batch, data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The means, and then the IoU by class where ``iou_metrics`` has mIoU."""
        means = self.metric.compute_metrics(results)
        if self.metric.format_only:
            return means
        metric = self.metric
        areas = [sum(area) for area in zip(*results, strict=True)]
        scores = metric.total_area_to_metrics(
            *areas, metric.metrics, metric.nan_to_num, metric.beta
        )
        classes = zip(metric.dataset_meta['classes'], scores.get('IoU', ()), strict=False)
        return means | {f'{BY_CLASS}{n}': float(np.round(100 * iou, 2)) for n, iou in classes}
