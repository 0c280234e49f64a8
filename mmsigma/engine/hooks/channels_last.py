"""Maps behind the backbone in channels-last order of memory."""

from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor, nn

from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Gives neck and heads their maps in channels-last order of memory, in training and evaluation.

    Convolutions take it from their input and hand it on. Weights stay as they are, and so do
    checkpoints and the optimiser's state. Operators of mmcv, which take every map for one in the
    usual order, still get that.
    """

    def __init__(self) -> None:
        self._done = False

    def before_run(self, runner: Any) -> None:
        """Prepare the model; once, though a test at the end of a training is a run, too."""
        if not self._done:
            channels_last(runner.model)
        self._done = True


def channels_last(model: nn.Module) -> None:
    """Prepare a model: see :class:`ChannelsLastHook`."""
    whole = [m for m in model.modules() if isinstance(m, AdaptedBackbone) or _is_operator(m)]
    inside = {part for module in whole for part in module.modules()}
    for module in whole:
        if isinstance(module, AdaptedBackbone):
            module.register_forward_hook(_order_maps)
        else:
            module.register_forward_pre_hook(_restore, with_kwargs=True)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module not in inside:
            module.register_forward_pre_hook(_order)


def _is_operator(module: nn.Module) -> bool:
    return any(kind.__module__.startswith('mmcv.ops') for kind in type(module).__mro__)


def _order(module: nn.Module, values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(
        x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in values
    )


def _order_maps(
    module: nn.Module, images: tuple[Tensor], maps: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    return _order(module, maps)


def _restore(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def usual(value: Any) -> Any:
        return value.contiguous() if isinstance(value, Tensor) else value

    return tuple(map(usual, args)), {name: usual(value) for name, value in kwargs.items()}
