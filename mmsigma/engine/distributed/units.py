"""Which parts of a trunk are gathered together while they run."""

from collections.abc import Iterator

import torch
from torch import nn

from mmsigma.models.adapted_backbone import AdaptedBackbone


def units(backbone: AdaptedBackbone, min_params: int) -> list[nn.Module]:
    """The largest modules inside the trunk's blocks that upstream's code calls.

    A trunk runs its blocks as two steps each and may never call the block itself, or may read the
    weights of a layer and do the rest. Only what is called has a moment before which its weights
    can be gathered, and one after which they can go; so the trunk runs once, on one small image,
    and its modules are watched.

    Args:
        backbone: The backbone, on the device that it will run on.
        min_params: Smaller modules are no units: gathering them costs more than they take.
    """
    called: set[nn.Module] = set()
    hooks = [
        module.register_forward_pre_hook(lambda module, _: called.add(module))
        for module in backbone.trunk.modules()
    ]
    was_training = backbone.training
    image = torch.zeros(1, 3, backbone.trunk.patch, backbone.trunk.patch)
    image = image.to(next(backbone.parameters()).device)
    try:
        backbone.eval()
        with torch.no_grad():
            backbone(image)
    finally:
        backbone.train(was_training)
        for hook in hooks:
            hook.remove()
    found: list[nn.Module] = []
    for block in backbone.trunk.blocks():
        found += (unit for unit in _within(block.module, called, min_params) if unit not in found)
    return found


def _within(module: nn.Module, called: set[nn.Module], min_params: int) -> Iterator[nn.Module]:
    if sum(p.numel() for p in module.parameters()) < min_params:
        return
    if module in called:
        yield module
        return
    for child in module.children():
        yield from _within(child, called, min_params)
