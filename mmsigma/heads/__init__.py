"""Heads that mmseg and mmdet lack."""

from mmsigma.heads.dpt_depth import DPTDepthHead

__all__ = ['DPTDepthHead']
