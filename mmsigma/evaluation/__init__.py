"""Metrics that mmseg and mmdet lack, or have only with packages that no index offers."""

from mmsigma.evaluation.by_dataset import ByDataset
from mmsigma.evaluation.iou import IoUMetric
from mmsigma.evaluation.panoptic import PanopticQuality

__all__ = ['ByDataset', 'IoUMetric', 'PanopticQuality']
