"""Adapters alone, tasks that share a pass, and precisions of a trunk."""

import argparse
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import backbones, measure
from mmsigma.apis.shared_forward import shared_blocks, shared_forward
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.execution.activation_memory import activation_bytes
from mmsigma.models.ops.depthwise import FORMS
from mmsigma.models.trunks.tokens import TokenLayout
from mmsigma.models.tuners.mona import MonaAdapter
from mmsigma.models.tuners.sigma import SIGMA, SIGMAAdapter

# Width and grid of ViT-S/14 at 224x308, of ViT-B/16 at 512x512.
SHAPES = {
    'cpu': [('384', 16, 22, 4), ('768', 32, 32, 1)],
    'cuda': [('768', 32, 32, 16), ('1024', 32, 32, 16)],
}


def adapter(args: argparse.Namespace, report: measure.Row) -> Iterator[str]:
    """Milliseconds and times as fast, a table of each shape, without dropout."""
    report['shapes'] = {}
    for width, *grid, batch in args.shapes or SHAPES[args.device]:
        torch.manual_seed(0)
        channels, layout = int(width), TokenLayout(*grid, 1, True)
        tokens = torch.randn(batch, 1 + grid[0] * grid[1], channels, device=args.device)
        modules = {}
        for form in reversed(FORMS):
            pair = [MonaAdapter(channels, 64, 0.0, False, form) for _ in range(2)]
            modules[f'Mona, two, {form}'] = nn.ModuleList(pair)
        for form in reversed(FORMS):
            one = SIGMAAdapter(channels, 64, True, SIGMA(form=form))
            modules[f'SIGMA, {form}'] = nn.ModuleList([one])
        for module in modules.values():
            backbones.fill(module.to(args.device))
        steps = {n: partial(adapt, args, own, tokens, layout) for n, own in modules.items()}
        rows = measure.in_turns(steps, args, partial(backbones.clear, modules))
        for name, row in rows.items():
            row['milliseconds'] = 1e3 * row['seconds']
            row['speed'] = measure.ratio(next(iter(rows.values())), row)
            row['parameters'] = measure.parameters(modules[name])
        text = f'{width}:{grid[0]}x{grid[1]}:{batch}'
        report['shapes'][text] = rows
        columns = {f'{text}, ms': ('milliseconds', '.2f'), 'times as fast': ('speed', '.2f')}
        yield measure.table('adapters of a block', columns, rows)


def adapt(
    args: argparse.Namespace, adapters: nn.ModuleList, tokens: Tensor, layout: TokenLayout
) -> None:
    """A step of adapters one behind the other, each added to the tokens ``(B, N, C)``."""
    out = tokens = tokens.detach().requires_grad_()
    with torch.autocast(args.device, torch.bfloat16, enabled=args.bf16):
        for module in adapters:
            out = out + module(out, layout)
    out.backward(torch.ones_like(out))


def tasks(args: argparse.Namespace, report: measure.Row) -> Iterator[str]:
    """Seconds of backbones on one trunk, one by one and together."""
    trunk = backbones.build(args, args.model, dict(type='Frozen')).trunk
    image = torch.randn(1, 3, *args.size)
    rows = {}
    for adapted in args.adapted:
        blocks = list(range(-adapted, 0))
        tuner = dict(type='SIGMA', blocks=blocks) if blocks else dict(type='Frozen')
        for count in args.tasks:
            models = [AdaptedBackbone(trunk, tuner, out_indices=[-1]).eval() for _ in range(count)]
            steps = {'alone': partial(one_by_one, models, image)}
            steps['together'] = partial(together, models, image)
            found = measure.in_turns(steps, args)
            depth, shared = models[0].out_indices[-1] + 1, shared_blocks(models[0])
            rows[f'{count} | {shared} of {depth}'] = {
                'alone': found['alone']['seconds'],
                'together': found['together']['seconds'],
                'ratio': measure.ratio(found['together'], found['alone']),
                'by_blocks': (shared + count * (depth - shared)) / (count * depth),
            }
    report['rows'] = rows
    columns = {
        'one by one, s': ('alone', '.3f'), 'together, s': ('together', '.3f'),
        'ratio': ('ratio', '.2f'), 'ratio by blocks': ('by_blocks', '.2f'),
    }  # fmt: skip
    yield measure.table('tasks | blocks shared', columns, rows)


@torch.no_grad()
def one_by_one(models: list[AdaptedBackbone], image: Tensor) -> None:
    """Every backbone on the image."""
    for model in models:
        model(image)


def together(models: list[AdaptedBackbone], image: Tensor) -> None:
    """Every backbone on the image, in one pass of their trunk."""
    with shared_forward(models):
        one_by_one(models, image)


def precision(args: argparse.Namespace, report: measure.Row) -> Iterator[str]:
    """Errors of the maps, time of a step, MiB of weights and of what is kept, by precision."""
    tuner, weights = dict(type='SIGMA'), dict(weights=args.weights)
    torch.manual_seed(0)
    image = torch.randn(1, 3, *args.size)
    with torch.no_grad():
        exact = backbones.build(args, args.model, tuner, weights).double()(image.double())
    models, found = {}, {}
    for stored in ('float32', 'bfloat16', 'int8'):
        for autocast in (None, 'bfloat16'):
            name, trunk = f'{stored} | {autocast or "none"}', weights | {'dtype': stored}
            make = partial(backbones.build, args, args.model, tuner, trunk, autocast=autocast)
            model = models[name] = make()
            with torch.no_grad():
                pairs = zip(model(image), exact, strict=True)
                error = max(float((m - e).norm() / e.norm()) for m, e in pairs)
            sizes = [(t.nbytes, t.requires_grad) for t in (*model.parameters(), *model.buffers())]
            found[name] = {
                'error': f'{100 * error:.2g} %',
                'frozen': sum(size for size, trains in sizes if not trains),  # scales of int8, too
                'trained': sum(size for size, trains in sizes if trains),
                'kept': activation_bytes(model, image),
                'with_cp': activation_bytes(make(with_cp=True), image),
            }
    report['rows'] = rows = backbones.timed(args, models, image)
    first = next(iter(rows.values()))
    for name, row in rows.items():
        row['ratio'] = measure.ratio(row, first)
        row |= {k: v if k == 'error' else v / measure.MIB for k, v in found[name].items()}
    columns = {
        'error of the maps': ('error', ''), 'time of a step / float32': ('ratio', '.2f'),
        'frozen parameters': ('frozen', '.1f'), 'trained parameters': ('trained', '.1f'),
        'kept': ('kept', '.1f'), 'kept, `with_cp`': ('with_cp', '.1f'),
    }  # fmt: skip
    yield measure.table('trunk stored in | autocast', columns, rows)
