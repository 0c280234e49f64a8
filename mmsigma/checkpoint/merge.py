"""Merges what a tuner trained into the weights it stands beside, so that less is left to run.

::

    trunk + LoRA, SSF, ...         -> trunk of other weights + Frozen
    trunk + trained weights of its own (Full, BitFit, ...)  -> the same
    trunk + LoRand                 -> trunk + Adapter
    trunk + SIGMA, fixed gate      -> trunk + SIGMA, one kernel
"""

import copy

import torch
from torch import nn

from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.trunks.base import fingerprint
from mmsigma.models.tuners.injection import InjectionContext


def merge(backbone: AdaptedBackbone) -> AdaptedBackbone:
    """A backbone whose maps are those of ``backbone`` in eval mode, with a simpler tuner.

    The given one stays as it is, and shares nothing with the new one. Merging is exact but for
    rounding, about 1e-6 of a map's values in float32; a trunk in half precision is merged in
    float32 and rounded once.

    Args:
        backbone: With the weights to merge.

    Returns:
        In eval mode; nothing waits for a gradient but what the new tuner trains. Its trunk has a
        fingerprint of its own where weights of the trunk changed.

    Raises:
        InvalidSettingError: The tuner does not merge, or not on this trunk, and why; or the trunk
            is in int8. ``tools/model_converters/merge.py`` merges such a model in float32.
    """
    backbone.trunk.require_float('Merging')
    own = copy.deepcopy(backbone).eval()
    trunk, dtype = own.trunk, own.trunk.dtype
    device = next(trunk.parameters()).device
    trunk.float()
    used = trunk.blocks()[: own.out_indices[-1] + 1]
    context = InjectionContext(trunk, used, trunk.has_class_token, own.adapters)
    with torch.no_grad():
        left = own.tuner.merge(context)
    trunk.to(dtype).requires_grad_(False)
    trunk.fingerprint = fingerprint(trunk.weights())
    merged = AdaptedBackbone(trunk, left, own.out_indices, own.autocast, own.with_cp)
    merged.to(device)
    merged.adapters.to(_dtype(own.adapters))
    merged.adapters.load_state_dict(own.adapters.state_dict())
    return merged.eval()


def _dtype(module: nn.Module) -> torch.dtype:
    return next((p.dtype for p in module.parameters()), torch.float32)
