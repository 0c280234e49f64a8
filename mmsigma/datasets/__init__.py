"""Data parts that mmseg and mmdet lack: exact resume, and checks before training starts."""

from mmsigma.datasets.panoptic import LoadPanoptic
from mmsigma.datasets.position_seed import PositionSeededSampler, SeedFromPosition

__all__ = ['LoadPanoptic', 'PositionSeededSampler', 'SeedFromPosition']
