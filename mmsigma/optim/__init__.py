"""Optimiser wrappers and their constructors that configs name; importing this registers them."""

from mmsigma.optim.bfloat16 import BFloat16OptimWrapper
from mmsigma.optim.grouped import GroupedOptimWrapperConstructor
from mmsigma.optim.layer_decay import LayerDecayOptimWrapperConstructor

__all__ = [
    'BFloat16OptimWrapper',
    'GroupedOptimWrapperConstructor',
    'LayerDecayOptimWrapperConstructor',
]
