"""Time and memory of whole models, head and losses included, on generated images.

    python tools/benchmark.py CONFIG ... [--size HEIGHTxWIDTH] [--batch N] [--bf16] [--json OUT]
                              [--tuners NAME ...] [--amp] [--profile]
                              [--compile] [--channels-last] [--chunked-loss] [--cuda-graphs]
                              [--fused] [--half-trunk] [--together]

Weights are random and no data is read. A training step is MMEngine's ``train_step`` on images of
noise with a few objects: data preprocessor, forward, losses, backward, and the config's own
optimiser at a rate of zero. Inference is mmseg's or mmdet's ``test_step``.

- The configs run in turns, forwards and backwards by round. A ratio is the median over rounds of
  the ratio to the first config; *of bias only* that to the config whose tuner is BitFit, the floor.
- Operations are counted in one step, and in one forward pass of the backbone. *Of peak* is what a
  step reaches of the rate of one large matrix product, timed here in the same precision.
- Peak memory is what the first steps take on top of the model: activations, gradients, state of
  the optimiser. It is measured as ``tools/bench.py`` does, which times backbones alone.
- ``--compile``, ``--channels-last``, ``--chunked-loss``, ``--cuda-graphs``, ``--fused`` and
  ``--half-trunk`` run each config once more, so; ``--together`` with all of them. Seconds of the
  first turn are in the JSON, with the time that compiling took.
- ``--tuners`` runs each config with each of these tuners. ``--profile`` says at the end where
  a training step of each spends its time, by operator.
"""

import argparse
import copy
import gc
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bench
import noise
import torch
import variants
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.utils import import_modules_from_strings
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from mmsigma import launch
from mmsigma.analysis.step_cost import FLOP_FORMULAS
from mmsigma.errors import InvalidSettingError

Changes = Sequence[variants.Variant]
Plan = dict[str, tuple[Config, Changes]]
Built = tuple[nn.Module, dict[str, Any], OptimWrapper]

TERA = 1e12
OPERATORS = 15  # that a profile names


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='+', metavar='config', help='the first is the reference')
    launch.add_arguments(parser)
    launch.add_parts(parser)
    parser.add_argument('--tuners', nargs='+', metavar='NAME', help='several, as --tuner takes one')
    parser.add_argument('--size', type=size, default=(512, 512), help='HEIGHTxWIDTH; 512x512')
    parser.add_argument('--batch', type=int, default=1, help='images; default 1')
    parser.add_argument('--repeats', type=int, default=3, help='timed rounds; default 3')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--bf16', action='store_true', help='bfloat16 in trunk and adapters')
    parser.add_argument('--amp', action='store_true', help='bfloat16 autocast of the whole model')
    for name, variant in variants.VARIANTS.items():
        text = f'each config also {variant.text}'
        parser.add_argument(f'--{name}', action='store_true', help=text)
    parser.add_argument('--together', action='store_true', help='the six above in one')
    parser.add_argument('--no-inference', action='store_true', help='training steps alone')
    parser.add_argument('--profile', action='store_true', help='time by operator')
    parser.add_argument('--json', type=Path, metavar='OUT', help='write all measurements there')
    args = parser.parse_args()
    for name in ('batch', 'repeats', 'threads'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1')
    return args


def size(text: str) -> tuple[int, int]:
    """Height and width, in pixels."""
    try:
        height, width = map(int, text.split('x'))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'{text!r} is no HEIGHTxWIDTH') from error
    return height, width


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    MMLogger.get_instance('benchmark', log_level='ERROR')  # heads tell of each initial value
    configs = {
        named(path, tuner): load(args, path, tuner)
        for path in args.configs
        for tuner in args.tuners or [args.tuner]
    }
    if len(configs) < len(args.configs) * len(args.tuners or [None]):
        given = ', '.join([*args.configs, *(args.tuners or [])])
        raise InvalidSettingError(f'A config or tuner is named twice: {given}.')
    header = bench.header(args.device, args.threads, args.repeats, args.bf16 or args.amp, 'wall')
    header |= {'size': list(args.size), 'batch': args.batch, 'amp': args.amp}
    for name, value in header.items():
        print(f'{name}: {value}')
    plan = planned(configs, args)
    peaks = {name: peak(*wanted, args) for name, wanted in plan.items()}
    before = product_rate(args)
    rows = measure(plan, args)
    # The better of two, for other work on the machine may have slowed the first.
    header['peak_tflops_per_second'] = rate = max(before, product_rate(args)) / TERA
    print(f'peak_tflops_per_second: {rate:.3f}')
    for name, row in rows.items():
        peak_memory = peaks[name]
        row['peak_memory_mib'] = None if peak_memory is None else peak_memory / bench.MIB
        row['share_of_peak'] = row['train']['tflops'] / row['train']['seconds'] / rate
    print(f'\n{table(rows)}')
    if args.profile:
        print(f'\n{table_of_operators(rows)}')
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({'header': header, 'configs': rows}, indent=2) + '\n')


def named(path: str, tuner: str | None) -> str:
    """What the tables call a config with another tuner, or with its own."""
    return Path(path).stem if tuner is None else f'{Path(path).stem}, {Path(tuner).stem}'


def load(args: argparse.Namespace, path: str, tuner: str | None) -> Config:
    """A config whose model needs no weights."""
    given = {**vars(args), 'config': path, 'tuner': tuner}
    config = launch.load_config(argparse.Namespace(**given))
    import_modules_from_strings(**config.custom_imports)
    backbone = config.get('model', {}).get('backbone', {})
    if 'trunk' not in backbone:
        raise InvalidSettingError(f'{path} has no model.backbone.trunk: nothing to adapt there.')
    backbone.trunk.weights = 'random'
    if args.bf16 or args.amp:
        backbone.autocast = 'bfloat16'
    if args.amp:
        config.optim_wrapper.type = 'mmsigma.BFloat16OptimWrapper'
    return config


def build(config: Config, args: argparse.Namespace) -> tuple[nn.Module, dict[str, Any]]:
    """The config's model in training mode, and a batch for its data preprocessor."""
    torch.manual_seed(0)
    init_default_scope(config.get('default_scope', 'mmengine'))
    with torch.device(args.device):  # where random weights of large trunks are made faster
        model = MODELS.build(config.model)
        model.init_weights()
    for name, parameter in model.named_parameters():
        if '.adapters.' in name and not parameter.any():  # as after some training
            nn.init.normal_(parameter, std=0.02)
    data = noise.batch(config.default_scope, args.size, args.batch)
    return model.to(args.device).train(), data


def optimiser(model: nn.Module, config: Config) -> OptimWrapper:
    """The config's own, at a rate of zero: steps cost what they cost, and change nothing."""
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    for group in wrapper.param_groups:
        group['lr'] = 0.0
    return wrapper


def train_step(model: Any, data: Mapping[str, Any], wrapper: OptimWrapper) -> None:
    """From images to new weights."""
    model.train_step({**data, 'data_samples': copies(data)}, wrapper)
    bench.synchronize(next(model.parameters()).device.type)


def copies(data: Mapping[str, Any]) -> list[Any]:
    """Samples of their own for each step: heads change them."""
    return [sample.clone() for sample in data['data_samples']]


def inference(model: nn.Module, data: Mapping[str, Any], amp: bool) -> None:
    """From images to predictions."""
    device = next(model.parameters()).device.type
    with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=amp):
        model.test_step({**data, 'data_samples': copies(data)})
    bench.synchronize(device)


def product_rate(args: argparse.Namespace) -> float:
    """Operations per second of one large matrix product; the best of several."""
    side = 8192 if args.device == 'cuda' else 2048
    dtype = torch.bfloat16 if args.bf16 or args.amp else torch.float32
    matrix = torch.randn(side, side, device=args.device).to(dtype)
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        matrix @ matrix
        bench.synchronize(args.device)
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds)


def counted(model: Any, data: Mapping[str, Any], wrapper: OptimWrapper) -> dict[str, float]:
    """Operations of a training step, and of the backbone's forward pass alone, in units of 1e12."""
    with FlopCounterMode(display=False, custom_mapping=FLOP_FORMULAS) as step:
        train_step(model, data, wrapper)
    images = model.data_preprocessor({**data, 'data_samples': copies(data)}, True)['inputs']
    with (
        torch.no_grad(),
        FlopCounterMode(display=False, custom_mapping=FLOP_FORMULAS) as forward,
    ):
        model.backbone(images)
    return {
        'tflops': step.get_total_flops() / TERA,
        'trunk_tflops': forward.get_total_flops() / TERA,
    }


def planned(configs: Mapping[str, Config], args: argparse.Namespace) -> Plan:
    """The configs, and the same with what the options switch on."""
    found: Plan = {name: (config, []) for name, config in configs.items()}
    for label, wanted in variants.chosen(args).items():
        for name, config in configs.items():
            fitting = variants.fitting(wanted, config)
            if fitting:
                found[f'{name}, {label}'] = config, fitting
            else:
                bench.say(f'{name}, {label}: left out, is only {wanted[0].text}')
    return found


def measure(plan: Plan, args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Seconds per step, medians and ratios to the first config."""
    built, operations, counts = {}, {}, {}
    for name, (config, changes) in plan.items():
        model, data, wrapper = built[name] = varied(config, changes, args)
        if not changes:
            counts[id(config)] = counted(model, data, wrapper)
        operations[name] = counts[id(config)]  # those of variants are the same: how differs
    seconds, warmup = in_turns(built, args)

    floor = next((n for n, (c, _) in plan.items() if c.model.backbone.tuner.type == 'BitFit'), None)
    rows: dict[str, dict[str, Any]] = {}
    for name, taken in seconds.items():
        parameters = built[name][0].parameters()
        rows[name] = {'trained_parameters': sum(p.numel() for p in parameters if p.requires_grad)}
        for kind in taken:
            rows[name][kind] = {
                'seconds': statistics.median(taken[kind]),
                'images_per_second': args.batch / statistics.median(taken[kind]),
                'ratio': ratio(taken[kind], next(iter(seconds.values()))[kind]),
                'ratio_to_floor': ratio(taken[kind], seconds[floor][kind]) if floor else None,
                'all_seconds': taken[kind],
                'first_seconds': warmup[name][kind],
            }
        rows[name]['train']['tflops'] = operations[name]['tflops']
        rows[name]['trunk_tflops'] = operations[name]['trunk_tflops']
        if args.profile:
            rows[name]['operators'] = profiled(*built[name], args.device)
    return rows


def varied(config: Config, changes: Changes, args: argparse.Namespace) -> Built:
    """A model with changes, a batch, and its optimiser."""
    own = copy.deepcopy(config)
    for variant in changes:
        own.merge_from_dict(variant.settings)
    model, data = build(own, args)
    for variant in changes:
        if variant.change is not None:
            variant.change(model)
    return model, data, optimiser(model, own)


def profiled(
    model: nn.Module, data: Mapping[str, Any], wrapper: OptimWrapper, device: str
) -> dict[str, float]:
    """Seconds of a training step by operator, each without what it calls; the longest first."""
    model.train()
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == 'cuda' else [])
    with profile(activities=kinds) as found:
        train_step(model, data, wrapper)
    kind = 'device' if device == 'cuda' else 'cpu'
    spent = {e.key: getattr(e, f'self_{kind}_time_total') / 1e6 for e in found.key_averages()}
    return dict(sorted(spent.items(), key=lambda item: -item[1])[:OPERATORS])


def table_of_operators(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Seconds by operator and config as Markdown."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row['operators']))
    head = f'| operator, s | {" | ".join(rows)} |'
    lines = [head, '|---' + '|--:' * len(rows) + '|']
    for name in names:
        cells = (row['operators'].get(name) for row in rows.values())
        lines.append(f'| {name} | {" | ".join("" if c is None else f"{c:.3f}" for c in cells)} |')
    return '\n'.join(lines)


def in_turns(
    built: Mapping[str, Built], args: argparse.Namespace
) -> tuple[dict[str, dict[str, list[float]]], dict[str, dict[str, float]]]:
    """Seconds by model and kind of step: of each round, and of the first, which is not timed."""
    kinds = ['train'] if args.no_inference else ['train', 'inference']
    seconds: dict[str, dict[str, list[float]]] = {n: {k: [] for k in kinds} for n in built}
    warmup: dict[str, dict[str, float]] = {name: {} for name in built}
    for turn in range(-1, args.repeats):  # the first is for warming up
        for name in built if turn % 2 == 0 else reversed(built):
            model, data, wrapper = built[name]
            for kind in kinds:
                model.train(kind == 'train')
                start = time.perf_counter()
                if kind == 'train':
                    train_step(model, data, wrapper)
                else:
                    inference(model, data, args.amp)
                taken = time.perf_counter() - start
                if turn < 0:
                    warmup[name][kind] = taken
                else:
                    seconds[name][kind].append(taken)
            model.zero_grad(set_to_none=True)
        bench.say(f'round {turn + 1} of {args.repeats}')
    return seconds, warmup


def ratio(taken: list[float], reference: list[float]) -> float:
    """The median of the ratios within a round."""
    return statistics.median(a / b for a, b in zip(taken, reference, strict=True))


def peak(config: Config, changes: Changes, args: argparse.Namespace) -> int | None:
    """Peak bytes that training steps take on top of the model."""
    if args.device != 'cpu':
        built = varied(config, changes, args)
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        train_step(*built)
        torch.cuda.reset_peak_memory_stats()  # the first step has workspaces of its own
        train_step(*built)
        return torch.cuda.max_memory_allocated() - before
    return bench.in_process(_peak_resident, args.threads, config, changes, args)


def _peak_resident(config: Config, changes: Changes, args: argparse.Namespace) -> int:
    built = varied(config, changes, args)
    gc.collect()

    def steps() -> None:
        for _ in range(2):  # the second has the optimiser's state beside its activations
            train_step(*built)

    return bench.growth(steps)


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Rows as Markdown."""
    columns = ['config']
    for kind, name in (('train', 'training'), ('inference', 'inference')):
        if kind in next(iter(rows.values())):
            columns += [f'{name}, s', 'images/s', 'of the first', 'of bias only']
    columns += ['peak MiB', 'TFLOP/step', 'TFLOP, trunk forward', 'of peak', 'trained']
    lines = [f'| {" | ".join(columns)} |', '|---' + '|--:' * (len(columns) - 1) + '|']
    for name, row in rows.items():
        cells = [name]
        for kind in ('train', 'inference'):
            if kind in row:
                floor = row[kind]['ratio_to_floor']
                cells += [f'{row[kind]["seconds"]:.3f}', f'{row[kind]["images_per_second"]:.2f}']
                cells += [f'{row[kind]["ratio"]:.3f}', '' if floor is None else f'{floor:.3f}']
        memory = row['peak_memory_mib']
        cells += ['' if memory is None else f'{memory:,.0f}', f'{row["train"]["tflops"]:.3f}']
        cells += [f'{row["trunk_tflops"]:.3f}', f'{row["share_of_peak"]:.0%}']
        lines.append(f'| {" | ".join(cells)} | {row["trained_parameters"]:,} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    launch.run(main)
