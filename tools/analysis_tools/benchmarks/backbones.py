"""Backbones alone, forward and backward, without head and optimiser."""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks import measure
from mmsigma.errors import UnknownNameError, unknown
from mmsigma.models.adapted_backbone import AdaptedBackbone

Tuner = Mapping[str, Any]
VARIANTS: dict[str, Tuner] = {
    'full': dict(type='Full'),
    'frozen forward': dict(type='Frozen'),
    'bias only': dict(type='BitFit'),
    'Mona plain': dict(type='Mona', form='plain'),
    'Mona fast': dict(type='Mona', form='fast'),
    'SIGMA plain': dict(type='SIGMA', form='plain'),
    'SIGMA fast': dict(type='SIGMA', form='fast'),
}
TRAIN_TRUNKS = ('Full', 'Partial', 'BitFit', 'NormTuning')  # parameters of the trunk itself
TUNERS = Path(__file__).parents[3] / 'configs/_base_/tuners'
SMALL, BASE = 'vit_small_patch14_dinov2', 'vit_base_patch16_siglip_512'
SHAPES = {
    'cpu': [(SMALL, 224, 308, 4), (BASE, 512, 512, 1)],
    'cuda': [(SMALL, 224, 308, 16), (BASE, 512, 512, 8)],
}


def build(
    args: argparse.Namespace, name: str, tuner: Tuner, trunk: Any = None, **settings: Any
) -> AdaptedBackbone:
    """A backbone in training mode with random weights, the same each time.

    Args:
        args: With the device and what timm builds the model with.
        name: Of the model in timm.
        tuner: As :class:`AdaptedBackbone` takes it.
        trunk: Further settings of the trunk.
        settings: Of the backbone.
    """
    torch.manual_seed(0)
    own = dict(type='TimmViT', model_name=name, weights='random', model_args=args.model_args)
    with torch.device(args.device):  # where random weights of large trunks are made faster
        model = AdaptedBackbone({**own, **(trunk or {})}, dict(tuner), **settings)
    return model.to(args.device).train()


def fill(module: nn.Module) -> None:
    """Give noise to what is zero, as after some training: nothing is multiplied by zero."""
    for parameter in module.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)


def step(model: nn.Module, images: Tensor) -> None:
    """A forward pass, mean squares of the maps as the loss and, if anything trains, a backward."""
    trains = any(p.requires_grad for p in model.parameters())
    with torch.set_grad_enabled(trains):
        loss = sum(m.float().square().mean() for m in model(images))
    if trains:
        loss.backward()


def trained(args: argparse.Namespace, name: str, tuner: Tuner) -> AdaptedBackbone:
    """A backbone as after some training, with what the options switch on."""
    half = getattr(args, 'half_trunk', False) and tuner['type'] not in TRAIN_TRUNKS
    switches = {key: True for key in ('compile', 'cuda_graphs') if getattr(args, key, False)}
    autocast = 'bfloat16' if args.bf16 else None
    trunk = dict(dtype='bfloat16') if half else None
    model = build(args, name, tuner, trunk, autocast=autocast, **switches)
    fill(model.adapters)
    return model


def cleared(model: nn.Module, images: Tensor) -> None:
    """A step that leaves no gradients."""
    step(model, images)
    model.zero_grad()


def clear(models: Mapping[str, nn.Module], name: str) -> None:
    """Let a model's next step start without gradients."""
    models[name].zero_grad()


def alone(args: argparse.Namespace, name: str, images: tuple[int, ...], tuner: Tuner) -> Any:
    """A step of one backbone that leaves no gradients, on images ``(B, 3, H, W)``."""
    return partial(cleared, trained(args, name, tuner), torch.randn(images, device=args.device))


def timed(
    args: argparse.Namespace, models: Mapping[str, nn.Module], images: Tensor, **settings: Any
) -> dict[str, measure.Row]:
    """Seconds of steps that start without gradients, by model; ``settings`` of ``in_turns``."""
    steps = {name: partial(step, model, images) for name, model in models.items()}
    return measure.in_turns(steps, args, partial(clear, models), **settings)


def backbone(args: argparse.Namespace, report: measure.Row) -> Iterator[str]:
    """Tables of each shape.

    Raises:
        UnknownNameError: Another tuner than those of configs/_base_/tuners.
    """
    variants = VARIANTS
    if args.tuners is not None:
        every = {path.stem: path for path in sorted(TUNERS.glob('*.py'))}
        if wrong := set(args.tuners) - every.keys():
            raise UnknownNameError(unknown('tuner', wrong.pop(), every))
        variants = {name: Config.fromfile(every[name]).tuner for name in args.tuners or every}
    cases = [(name, (b, 3, h, w)) for name, h, w, b in args.shapes or SHAPES[args.device]]
    peaks = [
        {n: measure.peak_memory(partial(alone, args, *case, t), args) for n, t in variants.items()}
        for case in cases
    ]
    names = {tuner['type']: name for name, tuner in variants.items()}
    report['cases'] = []
    for (name, size), peak in zip(cases, peaks, strict=True):
        models = {variant: trained(args, name, tuner) for variant, tuner in variants.items()}
        images = torch.randn(size, device=args.device)
        rows = timed(args, models, images)
        for variant, row in rows.items():
            row['ratio_to_full'] = measure.ratio(row, rows.get(names.get('Full', '')))
            row['ratio_to_floor'] = measure.ratio(row, rows.get(names.get('BitFit', '')))
            row['peak_memory_mib'] = peak[variant] and peak[variant] / measure.MIB
            row['trained_parameters'] = measure.parameters(models[variant])
        case = dict(model=name, height=size[2], width=size[3], batch=size[0])
        report['cases'].append({'case': case | {'model_args': args.model_args}, 'variants': rows})
        columns = {
            'seconds': ('seconds', '.4f'), 'of full': ('ratio_to_full', '.3f'),
            'of bias only': ('ratio_to_floor', '.3f'),
            'peak memory, MiB': ('peak_memory_mib', '.0f'),
            'trained parameters': ('trained_parameters', ',d'),
        }  # fmt: skip
        title = f'{name}, {size[2]}x{size[3]}, batch {size[0]}'
        yield f'{title}\n\n{measure.table("variant", columns, rows)}'
        if args.device == 'cuda':
            yield launches(args, models, images, rows)


def launches(
    args: argparse.Namespace, models: Mapping[str, nn.Module], images: Tensor, rows: Any
) -> str:
    """What of a step a GPU computes, in milliseconds and kernels; added to the rows."""
    # A clock that waits for nothing; each step begins when the one before has ended.
    starts = timed(args, models, images, clock=time.perf_counter)
    forward = {name: torch.no_grad()(partial(model, images)) for name, model in models.items()}
    forwards = measure.in_turns(forward, args)
    for name, model in models.items():
        kernels = kernels_of(partial(cleared, model, images))
        rows[name]['on_the_gpu'] = sum(kernels)
        rows[name]['kernels'] = len(kernels)
        rows[name]['started'] = 1e3 * starts[name]['seconds']
        rows[name]['forward'] = 1e3 * forwards[name]['seconds']
        rows[name]['step'] = 1e3 * rows[name]['seconds']
    columns = {key: (key, ',.2f') for key in ('step', 'started', 'on_the_gpu', 'forward')}
    return measure.table('variant, ms', columns | {'kernels': ('kernels', ',d')}, rows)


def kernels_of(run: Callable[[], object]) -> list[float]:
    """Milliseconds of each kernel of one call."""
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
        run()
        torch.cuda.synchronize()
    cuda = torch.autograd.DeviceType.CUDA
    own = [e for e in found.events() if e.device_type == cuda and not e.is_user_annotation]
    return [event.time_range.elapsed_us() / 1e3 for event in own]
