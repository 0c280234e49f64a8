"""Cost of a training step against the size of image and trunk."""

import argparse
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks import backbones, measure
from mmsigma.checkpoint.atomic_write import write
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.execution.activation_memory import activation_bytes

VARIANTS: dict[str, dict[str, Any]] = {
    'full': dict(type='Full'),
    'bias only': dict(type='BitFit'),
    'SIGMA': dict(type='SIGMA'),
}
COLOURS = {'full': '#34608f', 'bias only': '#888888', 'SIGMA': '#c0392b'}
MARKERS = 'osD^vPX*<>'
Points = Sequence[dict[str, Any]]


def scaling(args: argparse.Namespace, report: measure.Row) -> Iterator[str]:
    """A table of the points, and one of the exponents."""
    usual = 2.0 if args.device == 'cpu' else float('inf')
    limit = usual if args.max_tflops is None else args.max_tflops
    report['points'] = points = [point for model in args.models for point in counted(args, model)]
    timed = [p for p in points if p['tflops']['full'] <= limit]
    total = (args.repeats + 1) * sum(sum(p['tflops'].values()) for p in timed)
    measure.say(f'{len(timed)} of {len(points)} points are timed: {total:.1f} TFLOP in all')
    for name in args.models:
        if own := [p for p in timed if p['model'] == name]:
            time_points(own, args)
    report['exponents'] = exponents(points)
    yield table_of_points(points, args.device)
    columns = {name: (name, '.2f') for name in VARIANTS}
    yield measure.table('exponent of time', columns, report['exponents'])
    if args.plot:
        write(args.plot, plot(points, args))


def counted(args: argparse.Namespace, model: str) -> Points:
    """What can be counted of a model, by size."""
    trunk = dict(type='TimmViT', model_name=model, model_args=args.model_args)
    shapes = [(args.batch, 3, side, side) for side in args.sizes]
    found = {name: count(trunk, tuner, shapes) for name, tuner in VARIANTS.items()}
    measure.say(f'{model}: counted')
    bytes_of = {name: [n['kept'] + n['weights'] for n in own] for name, own in found.items()}
    return [
        {
            'model': model,
            'side': side,
            'batch': args.batch,
            'parameters': found['full'][i]['parameters'],
            'tflops': {name: own[i]['flops'] / measure.TERA for name, own in found.items()},
            'seconds': None,
            'memory_gib': {name: own[i] / measure.GIB for name, own in bytes_of.items()}
            if args.device == 'cpu'
            else None,
        }
        for i, side in enumerate(args.sizes)
    ]


def count(
    trunk: Mapping[str, Any], tuner: Mapping[str, Any], shapes: Iterable[Sequence[int]]
) -> list[dict[str, int]]:
    """Count a step of a backbone in float32; tensors have shapes, but no values.

    Args:
        trunk: Of a family that builds without values; its ``weights`` do not matter.
        tuner: As :class:`AdaptedBackbone` takes it.
        shapes: Of the images, ``(B, 3, H, W)``.

    Returns:
        For each shape ``flops``, multiplications and additions of forward and backward pass;
        ``kept``, bytes that the forward pass leaves for the backward pass, besides the maps;
        ``weights``, bytes of all parameters; and ``parameters``, how many there are.
    """
    with torch.device('meta'):
        model = AdaptedBackbone({**trunk, 'weights': 'random'}, dict(tuner)).train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device='cpu')
        return [_count(model, torch.empty(*shape)) for shape in shapes]


def _count(model: AdaptedBackbone, images: Tensor) -> dict[str, int]:
    maps: list[Tensor] = []

    def forward() -> list[Tensor]:
        maps.extend(model(images))
        return maps

    with measure.operations() as operations:
        found = activation_bytes(forward)
        torch.stack([m.square().mean() for m in maps]).sum().backward()
    model.zero_grad(set_to_none=True)
    parameters = list(model.parameters())
    return {
        'flops': operations.get_total_flops(),
        'kept': found,
        'weights': sum(p.nbytes for p in parameters),
        'parameters': sum(p.numel() for p in parameters),
    }


def time_points(points: Points, args: argparse.Namespace) -> None:
    """Add the medians of seconds to the points of one model and, on a GPU, the peaks of memory."""
    name = points[0]['model']
    models = {n: backbones.trained(args, name, tuner) for n, tuner in VARIANTS.items()}
    for point in points:
        side = point['side']
        images = torch.randn(args.batch, 3, side, side, device=args.device)
        try:
            rows = backbones.timed(args, models, images)
            if args.device == 'cuda':
                point['memory_gib'] = {n: peak(m, images) / measure.GIB for n, m in models.items()}
        except torch.cuda.OutOfMemoryError:
            measure.say(f'{name}, {side} pixels: does not fit')
            continue
        point['seconds'] = {n: row['seconds'] for n, row in rows.items()}
        point['all_seconds'] = {n: row['all_seconds'] for n, row in rows.items()}


def peak(model: nn.Module, images: Tensor) -> int:
    """Bytes on a GPU during a step, with weights and images."""
    own = sum(t.nbytes for t in (*model.parameters(), *model.buffers(), images))
    return own + measure.allocated(partial(backbones.cleared, model, images))


def exponents(points: Points) -> dict[str, Any]:
    """The ``e`` of ``seconds = c * size ** e`` by variant, least squares of the logarithms.

    Against pixels by model, of all sizes and of the two largest that were timed, and against
    parameters by size; where there are two sizes or more.
    """
    timed = sorted((p for p in points if p['seconds']), key=lambda p: p['side'])
    groups: dict[str, list[tuple[float, Any]]] = {}
    for model in dict.fromkeys(p['model'] for p in timed):
        own = [(p['side'] ** 2, p['seconds']) for p in timed if p['model'] == model]
        groups[f'against pixels, {model}, all sizes'] = own
        groups[f'against pixels, {model}, the two largest'] = own[-2:]
    for side in dict.fromkeys(p['side'] for p in timed):
        own = [(p['parameters'], p['seconds']) for p in timed if p['side'] == side]
        groups[f'against parameters, {side}²'] = own
    found: dict[str, Any] = {}
    for title, group in groups.items():
        sizes = [size for size, _ in group]
        if len(set(sizes)) > 1:
            costs = np.log([[seconds[name] for name in VARIANTS] for _, seconds in group])
            slopes = np.polyfit(np.log(sizes), costs, 1)[0]
            found[title] = dict(zip(VARIANTS, slopes.tolist(), strict=True))
    return found


def table_of_points(points: Points, device: str) -> str:
    """Points as Markdown; a dash stands for what was not timed."""
    names = ', '.join(VARIANTS)
    memory = 'peak, GiB' if device == 'cuda' else 'weights and kept, GiB'
    rows = {}
    for p in points:
        s, m = p['seconds'], p['memory_gib']
        rows[f'{p["model"]} | {p["side"]}²'] = {
            'tflops': p['tflops']['full'],
            'seconds': ', '.join(f'{v:.3f}' for v in s.values()) if s else '–',
            'full': f'{s["SIGMA"] / s["full"]:.2f}' if s else '–',
            'floor': f'{s["SIGMA"] / s["bias only"]:.2f}' if s else '–',
            'memory': ', '.join(f'{v:.2f}' for v in m.values()) if m else '–',
        }
    columns = {
        'TFLOP, full': ('tflops', '.2f'), f'{names}: seconds': ('seconds', ''),
        'SIGMA / full': ('full', ''), 'SIGMA / bias only': ('floor', ''),
        f'{names}: {memory}': ('memory', ''),
    }  # fmt: skip
    return measure.table('trunk | pixels', columns, rows)


def plot(points: Points, args: argparse.Namespace) -> bytes:
    """A PNG of seconds and memory against pixels, both logarithmic; a marker for each trunk."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.4), dpi=120, layout='constrained')
    counted = 'peak memory' if args.device == 'cuda' else 'weights and kept activations'
    labels = {'seconds': 'seconds of a step', 'memory_gib': f'{counted}, GiB'}
    for axes, (key, label) in zip(figure.subplots(1, 2), labels.items(), strict=True):
        for marker, model in zip(MARKERS, args.models, strict=False):
            for name, colour in COLOURS.items():
                own = [p for p in points if p['model'] == model and p[key]]
                sides, costs = [p['side'] for p in own], [p[key][name] for p in own]
                axes.loglog(
                    [side**2 for side in sides], costs, color=colour, marker=marker, ms=4, lw=1
                )
        ticks = sorted({p['side'] for p in points})
        axes.set_xticks([side**2 for side in ticks], [f'{side}²' for side in ticks], fontsize=7)
        axes.minorticks_off()
        axes.set_xlabel('pixels')
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    seconds, memory = figure.axes
    lines = seconds.get_lines()
    seconds.legend(lines[: len(COLOURS)], COLOURS, fontsize=7, loc='upper left')
    memory.legend(
        lines[len(COLOURS) - 1 :: len(COLOURS)], args.models, fontsize=7, loc='upper left'
    )
    image = io.BytesIO()
    figure.savefig(image, format='png', metadata={'Software': None})
    return image.getvalue()
