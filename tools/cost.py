"""Cost of a training step against the size of image and trunk, without head and optimiser.

    python tools/cost.py [--models NAME ...] [--sizes PIXELS ...] [--max-tflops N]
                         [--counts JSON] [--json OUT] [--plot OUT.png] [--write PAGE]

Full fine-tuning, biases alone and SIGMA on timm's ViTs with random weights, square images. A step
is that of tools/bench.py. Seconds are medians over rounds in which the three run in turns. On a
CPU, memory is counted, from shapes alone: weights, and what the forward pass keeps for the backward
pass; on a GPU it is the peak of a step, weights included. Points with more operations than
--max-tflops, or that do not fit a GPU, are not timed: they are missing, not estimated. Counting
takes minutes for large trunks; ``--counts`` takes it from an earlier report, of any machine.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bench
import torch
from torch import nn

from mmsigma import launch
from mmsigma.analysis import plots
from mmsigma.analysis.pages import put
from mmsigma.analysis.step_cost import count, exponent
from mmsigma.errors import InvalidSettingError
from mmsigma.files import write

VARIANTS: dict[str, dict[str, Any]] = {
    'full': dict(type='Full'),
    'bias only': dict(type='BitFit'),
    'SIGMA': dict(type='SIGMA'),
}
MODELS = [f'vit_{size}_patch14_dinov2' for size in ('small', 'base', 'large', 'giant')]
SIZES = [256, 384, 512, 768, 1024, 1536]
COLOURS = {'full': plots.OTHERS, 'bias only': plots.GREY, 'SIGMA': plots.OURS}
GIB, TERA = 2**30, 1e12
Point = dict[str, Any]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = 'cuda' if torch.cuda.is_available() else 'cpu'
    parser.add_argument('--device', choices=['cpu', 'cuda'], default=default)
    parser.add_argument('--models', nargs='+', default=MODELS, metavar='NAME', help="timm's names")
    parser.add_argument('--sizes', nargs='+', type=int, default=SIZES, help='sides, in pixels')
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument(
        '--max-tflops', type=float, metavar='N',
        help='time no step of more operations than this, in full fine-tuning (default: 2 on a CPU)',
    )  # fmt: skip
    parser.add_argument(
        '--model-args', default={}, type=json.loads, help='of timm, as JSON, e.g. {"depth": 2}'
    )
    parser.add_argument('--repeats', type=int, default=3, help='timed rounds (default 3)')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument(
        '--clock', choices=sorted(bench.CLOCKS), default='wall',
        help='cpu: processor time; with --threads 1',
    )  # fmt: skip
    parser.add_argument('--counts', type=Path, metavar='JSON', help='an earlier --json')
    parser.add_argument('--json', type=Path, metavar='OUT', help='write all measurements there')
    parser.add_argument('--plot', type=Path, metavar='OUT', help='write a PNG')
    parser.add_argument('--write', metavar='PAGE', help='put the tables into their place in a page')
    args = parser.parse_args()
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda, but PyTorch finds no GPU; use --device cpu')
    if args.clock == 'cpu' and (args.device != 'cpu' or args.threads != 1):
        parser.error('--clock cpu means little without --device cpu --threads 1')
    if min(args.repeats, args.threads, args.batch, *args.sizes) < 1:
        parser.error('--repeats, --threads, --batch and --sizes must be at least 1')
    if args.max_tflops is None and args.device == 'cpu':
        args.max_tflops = 2.0
    return args


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    low = args.device == 'cuda'
    points = recounted(args) if args.counts else [p for m in args.models for p in counted(args, m)]
    timed = [p for p in points if args.max_tflops is None or p['tflops']['full'] <= args.max_tflops]
    total = (args.repeats + 1) * sum(sum(p['tflops'].values()) for p in timed)
    bench.say(f'{len(timed)} of {len(points)} points are timed: {total:.1f} TFLOP in all')
    for model in args.models:
        measure([p for p in timed if p['model'] == model], args, low)
    header = bench.header(args.device, args.threads, args.repeats, low, args.clock)
    header['model_args'] = args.model_args
    report = {'header': header, 'points': points, 'exponents': exponents(points)}
    text = tables(report, args.device)
    print(text)
    if args.json:
        write(args.json, (json.dumps(report, indent=2) + '\n').encode())
    if args.plot:
        plots.save(plot(points, args.device), args.plot)
    if args.write:
        put(args.write, 'tools/cost.py', text)


def recounted(args: argparse.Namespace) -> list[Point]:
    """What an earlier report has counted of these models and sizes, and nothing that it timed.

    Raises:
        InvalidSettingError: It lacks a model or a size, or is of another batch.
    """
    report = json.loads(args.counts.read_text(encoding='utf-8'))
    points, made_with = report['points'], report['header']['model_args']
    found = {(p['model'], p['side'], p['batch']): p for p in points}
    wanted = [(model, side, args.batch) for model in args.models for side in args.sizes]
    missing = [key for key in wanted if key not in found]
    if missing or made_with != args.model_args:
        raise InvalidSettingError(
            f'{args.counts} has not counted {missing or wanted} of --model-args '
            f'{args.model_args}; it has {sorted(found)} of {made_with}. Leave --counts out to '
            'count anew.'
        )
    own = [{**found[key], 'seconds': None} for key in wanted]
    return [{**p, 'memory_gib': None} if args.device == 'cuda' else p for p in own]


def counted(args: argparse.Namespace, model: str) -> list[Point]:
    """What can be counted of a model, by size."""
    trunk = dict(type='TimmViT', model_name=model, model_args=args.model_args)
    shapes = [(args.batch, 3, side, side) for side in args.sizes]
    found = {name: count(trunk, tuner, shapes) for name, tuner in VARIANTS.items()}
    bench.say(f'{model}: counted')
    return [
        {
            'model': model,
            'side': side,
            'batch': args.batch,
            'parameters': found['full'][i].parameters,
            'tflops': {name: f[i].flops / TERA for name, f in found.items()},
            'seconds': None,
            'memory_gib': {name: (f[i].kept + f[i].weights) / GIB for name, f in found.items()}
            if args.device == 'cpu'
            else None,
        }
        for i, side in enumerate(args.sizes)
    ]


def measure(points: Sequence[Point], args: argparse.Namespace, low: bool) -> None:
    """Add the medians of seconds to the points of one model and, on a GPU, the peaks of memory."""
    if not points:
        return
    name, side = points[0]['model'], points[0]['side']
    case = bench.Case(name, side, side, args.batch, args.model_args)
    models = {
        variant: bench.build(case, tuner, args.device)[0] for variant, tuner in VARIANTS.items()
    }
    for point in points:
        images = torch.randn(args.batch, 3, point['side'], point['side'], device=args.device)
        try:
            seconds, peaks = rounds(models, images, args, low)
        except torch.cuda.OutOfMemoryError:
            bench.say(f'{name}, {point["side"]} pixels: does not fit')
            continue
        point['seconds'] = {v: statistics.median(taken) for v, taken in seconds.items()}
        point['all_seconds'] = seconds
        point['memory_gib'] = point['memory_gib'] or peaks
        bench.say(f'{name}, {point["side"]} pixels: {point["seconds"]["SIGMA"]:.3f} s')


def rounds(
    models: Mapping[str, nn.Module], images: torch.Tensor, args: argparse.Namespace, low: bool
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of each variant and round, and on a GPU the peak of each in GiB."""
    seconds: dict[str, list[float]] = {name: [] for name in models}
    peaks = {}
    for turn in range(-1, args.repeats):  # the first is for warming up
        for name in models if turn % 2 == 0 else reversed(models):
            if args.device == 'cuda':
                others = sum(weights(m) for n, m in models.items() if n != name)
                torch.cuda.reset_peak_memory_stats()
            taken = bench.timed_step(models[name], images, True, low, args.clock)
            if args.device == 'cuda':
                peaks[name] = (torch.cuda.max_memory_allocated() - others) / GIB
            if turn >= 0:
                seconds[name].append(taken)
    return seconds, peaks


def weights(model: nn.Module) -> int:
    """Bytes of parameters and buffers."""
    return sum(t.nbytes for t in (*model.parameters(), *model.buffers()))


def exponents(points: Sequence[Point]) -> dict[str, Any]:
    """Exponents of time against pixels by model, and against parameters by size.

    ``all``: of all sizes; ``upper``: of the two largest that were timed.
    """
    found: dict[str, Any] = {'pixels': {}, 'parameters': {}}
    for model in dict.fromkeys(p['model'] for p in points):
        own = sorted((p for p in points if p['model'] == model), key=lambda p: p['side'])
        own = [p for p in own if p['seconds']]
        found['pixels'][model] = {
            name: {'all': _grows(own, 'side', name, 2), 'upper': _grows(own[-2:], 'side', name, 2)}
            for name in VARIANTS
        }
    for side in sorted({p['side'] for p in points}):
        own = [p for p in points if p['side'] == side and p['seconds']]
        found['parameters'][side] = {name: _grows(own, 'parameters', name) for name in VARIANTS}
    return found


def _grows(points: Sequence[Point], key: str, name: str, power: int = 1) -> float | None:
    return exponent([p[key] ** power for p in points], [p['seconds'][name] for p in points])


def tables(report: Mapping[str, Any], device: str) -> str:
    """The points, and the exponents, as two Markdown tables."""
    memory = 'peak, GiB' if device == 'cuda' else 'weights and kept, GiB'
    names = list(VARIANTS)
    lines = [
        f'| trunk | pixels | TFLOP, full | {", ".join(names)}: seconds | SIGMA / full | '
        f'SIGMA / bias only | {", ".join(names)}: {memory} |',
        '|---|--:|--:|--:|--:|--:|--:|',
    ]
    for p in report['points']:
        s, m = p['seconds'], p['memory_gib']
        ratios = [f'{s["SIGMA"] / s[other]:.2f}' if s else '–' for other in names[:2]]
        cells = [
            p['model'], f'{p["side"]}²', f'{p["tflops"]["full"]:.2f}', _three(s, '.3f'), *ratios,
            _three(m, '.2f'),
        ]  # fmt: skip
        lines.append(f'| {" | ".join(cells)} |')
    grows = report['exponents']
    lines += ['', '| exponent of time | full | bias only | SIGMA |', '|---|--:|--:|--:|']
    for model, by_name in grows['pixels'].items():
        for which, words in (('all', 'all sizes'), ('upper', 'the two largest')):
            row = {name: found[which] for name, found in by_name.items()}
            if any(row.values()):
                lines.append(f'| against pixels, {model}, {words} | {_cells(row)} |')
    for side, row in grows['parameters'].items():
        if any(row.values()):
            lines.append(f'| against parameters, {side}² | {_cells(row)} |')
    return '\n'.join(lines)


def _three(values: Mapping[str, float] | None, form: str) -> str:
    return ', '.join(f'{value:{form}}' for value in values.values()) if values else '–'


def _cells(row: Mapping[str, float | None]) -> str:
    return ' | '.join('–' if value is None else f'{value:.2f}' for value in row.values())


def plot(points: Sequence[Point], device: str) -> Any:
    """Seconds and memory against pixels, both axes logarithmic; a marker for each trunk."""
    figure = plots._figure(9.6, 4.4)
    models = list(dict.fromkeys(p['model'] for p in points))
    for place, key in enumerate(('seconds', 'memory_gib')):
        axes = figure.add_subplot(1, 2, place + 1)
        axes.set_xscale('log')
        axes.set_yscale('log')
        for number, model in enumerate(models):
            for name, colour in COLOURS.items():
                own = [p for p in points if p['model'] == model and p[key]]
                axes.plot([p['side'] ** 2 for p in own], [p[key][name] for p in own], color=colour,
                          marker=plots.MARKERS[number], markersize=4, linewidth=1)  # fmt: skip
        sides = sorted({p['side'] for p in points})
        axes.set_xticks([side**2 for side in sides], [f'{side}²' for side in sides], fontsize=7)
        axes.minorticks_off()
        axes.set_xlabel('pixels')
        axes.grid(alpha=0.3)
    of_memory = 'peak memory' if device == 'cuda' else 'weights and kept activations'
    for axes, label in zip(figure.axes, ('seconds of a step', f'{of_memory}, GiB'), strict=True):
        axes.set_ylabel(label)
    lines = figure.axes[0].get_lines()
    figure.axes[0].legend(lines[: len(COLOURS)], COLOURS, fontsize=7, loc='upper left')
    figure.axes[1].legend(lines[2 :: len(COLOURS)], models, fontsize=7, loc='upper left')
    return figure


if __name__ == '__main__':
    launch.run(main)
