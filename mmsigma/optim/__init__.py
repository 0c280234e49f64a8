"""Optimiser wrappers and their constructors that configs name; importing this registers them."""

from mmsigma.optim.bfloat16 import BFloat16OptimWrapper

__all__ = ['BFloat16OptimWrapper']
