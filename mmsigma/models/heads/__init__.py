"""Heads that mmseg and mmdet lack."""

from mmsigma.models.heads.dpt_depth import DPTDepthHead

__all__ = ['DPTDepthHead']
