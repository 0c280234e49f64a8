"""What tools/benchmark.py can switch on besides what a config says."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import bench
from mmengine.config import Config
from torch import nn

from mmsigma.hooks.channels_last import channels_last


@dataclass(frozen=True)
class Variant:
    """What an option changes: settings of the config, or the model that is built."""

    text: str
    settings: dict[str, Any] = field(default_factory=dict)
    change: Callable[[nn.Module], None] | None = None


HALF = {'model.backbone.trunk.dtype': 'bfloat16'}
VARIANTS = {
    'compile': Variant('with model.backbone.compile=True', {'model.backbone.compile': True}),
    'channels-last': Variant('with mmsigma.ChannelsLastHook', change=channels_last),
    'cuda-graphs': Variant(
        'with model.backbone.cuda_graphs=True', {'model.backbone.cuda_graphs': True}
    ),
    'fused': Variant(
        'with optim_wrapper.optimizer.fused=True', {'optim_wrapper.optimizer.fused': True}
    ),
    'half-trunk': Variant(
        'with model.backbone.trunk.dtype=bfloat16, if nothing trains there', HALF
    ),
}


def chosen(args: argparse.Namespace) -> dict[str, list[Variant]]:
    """What runs besides the configs themselves, by what the tables call it."""
    named = [name for name in VARIANTS if getattr(args, name.replace('-', '_'))]
    found = {name: [VARIANTS[name]] for name in named}
    if args.together:
        found['together'] = list(VARIANTS.values())
    return found


def fitting(wanted: Sequence[Variant], config: Config) -> list[Variant]:
    """Those that a config can take: what trains is not stored in half precision."""
    whole = config.model.backbone.tuner.type in bench.TRAIN_TRUNKS
    return [variant for variant in wanted if variant.settings is not HALF or not whole]
