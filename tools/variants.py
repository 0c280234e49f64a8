"""What tools/benchmark.py can switch on besides what a config says."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import bench
from mmengine.config import Config
from torch import nn

from mmsigma.hooks.channels_last import channels_last
from mmsigma.hooks.chunked_loss import chunk


@dataclass(frozen=True)
class Variant:
    """What an option changes: settings of the config, or the model that is built."""

    text: str
    settings: dict[str, Any] = field(default_factory=dict)
    change: Callable[[nn.Module], object] | None = None


VARIANTS = {
    'compile': Variant('with model.backbone.compile=True', {'model.backbone.compile': True}),
    'channels-last': Variant('with mmsigma.ChannelsLastHook', change=channels_last),
    'chunked-loss': Variant('with mmsigma.ChunkedLossHook, with mmseg', change=chunk),
    'cuda-graphs': Variant(
        'with model.backbone.cuda_graphs=True', {'model.backbone.cuda_graphs': True}
    ),
    'fused': Variant(
        'with optim_wrapper.optimizer.fused=True', {'optim_wrapper.optimizer.fused': True}
    ),
    'half-trunk': Variant(
        'with model.backbone.trunk.dtype=bfloat16, if nothing trains there',
        {'model.backbone.trunk.dtype': 'bfloat16'},
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
    """Those that a config can take, as their texts say."""
    unfit = []
    if config.model.backbone.tuner.type in bench.TRAIN_TRUNKS:
        unfit.append('half-trunk')
    if config.get('default_scope') != 'mmseg':
        unfit.append('chunked-loss')
    return [variant for variant in wanted if variant not in [VARIANTS[name] for name in unfit]]
