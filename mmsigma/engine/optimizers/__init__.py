"""Optimiser wrappers and their constructors that configs name; importing this registers them."""

from mmsigma.engine.optimizers.bfloat16 import BFloat16OptimWrapper
from mmsigma.engine.optimizers.grouped import GroupedOptimWrapperConstructor
from mmsigma.engine.optimizers.layer_decay import LayerDecayOptimWrapperConstructor

__all__ = [
    'BFloat16OptimWrapper',
    'GroupedOptimWrapperConstructor',
    'LayerDecayOptimWrapperConstructor',
]
