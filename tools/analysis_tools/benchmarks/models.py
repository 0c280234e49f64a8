"""Whole models of mmseg and mmdet, head and losses included."""

import argparse
import copy
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.utils import import_modules_from_strings
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer

from benchmarks import measure, samples
from benchmarks.backbones import TRAIN_TRUNKS, fill
from mmsigma.engine import launch
from mmsigma.engine.hooks.channels_last import channels_last
from mmsigma.engine.hooks.chunked_loss import chunk
from mmsigma.errors import InvalidSettingError

# What switches change: settings of a config, or the model that is built.
SETTINGS: dict[str, dict[str, Any]] = {
    'compile': {'model.backbone.compile': True},
    'cuda-graphs': {'model.backbone.cuda_graphs': True},
    'fused': {'optim_wrapper.optimizer.fused': True},
    'half-trunk': {'model.backbone.trunk.dtype': 'bfloat16'},
}
CHANGES = {'channels-last': channels_last, 'chunked-loss': chunk}
OPERATORS = 15  # that a profile names
Planned = tuple[Config, list[str]]
Built = tuple[Any, dict[str, Any], OptimWrapper]


def model(args: argparse.Namespace, report: measure.Row) -> Iterator[str]:
    """The table of all configs, and a profile of each.

    Raises:
        InvalidSettingError: A config or tuner is named twice, or a config adapts nothing.
    """
    MMLogger.get_instance('benchmark', log_level='ERROR')  # heads tell of each initial value
    configs = {
        ', '.join(Path(part).stem for part in (path, tuner) if part): load(args, path, tuner)
        for path in args.configs
        for tuner in args.tuners
    }
    if len(configs) < len(args.configs) * len(args.tuners):
        given = ', '.join([*args.configs, *filter(None, args.tuners)])
        raise InvalidSettingError(f'A config or tuner is named twice: {given}.')
    plan = planned(configs, args)
    peaks = {n: measure.peak_memory(partial(training, p, args), args, 2) for n, p in plan.items()}
    before = product_rate(args)
    built = {name: build(wanted, args) for name, wanted in plan.items()}
    report['configs'] = rows = measured(built, plan, args)
    # The better of two, for other work on the machine may have slowed the first.
    rate = max(before, product_rate(args)) / measure.TERA
    report['header']['peak_tflops_per_second'] = rate
    for name, row in rows.items():
        row['peak_memory_mib'] = peaks[name] and peaks[name] / measure.MIB
        row['share_of_peak'] = row['train']['tflops'] / row['train']['seconds'] / rate
    yield f'peak_tflops_per_second: {rate:.3f}\n\n{table_of(rows)}'
    for name in built if args.profile else ():
        rows[name]['operators'], text = profiled(built[name], args.device)
        yield f'{name}\n\n{text}'


def load(args: argparse.Namespace, path: str, tuner: str | None) -> Config:
    """A config whose model needs no weights."""
    options = argparse.ArgumentParser()  # which reads values as tools/train.py does
    options.add_argument('--cfg-options', nargs='*', action=DictAction)
    given = options.parse_args(['--cfg-options', *args.cfg_options])
    parts = dict(config=path, trunk=args.trunk, tuner=tuner, head=args.head)
    vars(given).update(parts, launcher='none', local_rank=0, work_dir=None)
    config = launch.load_config(given)
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


def planned(configs: Mapping[str, Config], args: argparse.Namespace) -> dict[str, Planned]:
    """The configs, and the same with what the options switch on."""
    every = [*SETTINGS, *CHANGES]
    wanted = {name: [name] for name in every if getattr(args, name.replace('-', '_'))}
    if args.together:
        wanted['together'] = every
    found: dict[str, Planned] = {name: (config, []) for name, config in configs.items()}
    for label, switches in wanted.items():
        for name, config in configs.items():
            unfit = {
                'half-trunk': config.model.backbone.tuner.type in TRAIN_TRUNKS,
                'chunked-loss': config.get('default_scope') != 'mmseg',
            }
            if fitting := [switch for switch in switches if not unfit.get(switch)]:
                found[f'{name}, {label}'] = config, fitting
            else:
                measure.say(f'{name}, {label}: left out, see --help')
    return found


def build(wanted: Planned, args: argparse.Namespace) -> Built:
    """A model in training mode, a batch for its data preprocessor, and its optimiser.

    The optimiser has a rate of zero: steps cost what they cost, and change nothing.
    """
    config = copy.deepcopy(wanted[0])
    for switch in wanted[1]:
        config.merge_from_dict(SETTINGS.get(switch, {}))
    torch.manual_seed(0)
    init_default_scope(config.get('default_scope', 'mmengine'))
    with torch.device(args.device):  # where random weights of large trunks are made faster
        own = MODELS.build(config.model)
        own.init_weights()
    fill(own.backbone.adapters)
    data = samples.batch(config.default_scope, args.size, args.batch)
    own.to(args.device).train()
    for switch in CHANGES.keys() & wanted[1]:
        CHANGES[switch](own)
    wrapper = build_optim_wrapper(own, config.optim_wrapper)
    for group in wrapper.param_groups:
        group['lr'] = 0.0
    return own, data, wrapper


def training(wanted: Planned, args: argparse.Namespace) -> measure.Step:
    """A step of a model that is built for it."""
    return partial(train_step, *build(wanted, args))


def train_step(own: Any, data: Mapping[str, Any], wrapper: OptimWrapper) -> None:
    """From images to new weights."""
    own.train_step(copied(data), wrapper)


def inference(
    args: argparse.Namespace, own: Any, data: Mapping[str, Any], wrapper: OptimWrapper
) -> None:
    """From images to predictions."""
    with torch.no_grad(), torch.autocast(args.device, torch.bfloat16, enabled=args.amp):
        own.test_step(copied(data))


def copied(data: Mapping[str, Any]) -> dict[str, Any]:
    """With samples of their own for each step: heads change them."""
    return {**data, 'data_samples': [sample.clone() for sample in data['data_samples']]}


def product_rate(args: argparse.Namespace) -> float:
    """Operations per second of one large matrix product; the best of about a second."""
    side = 8192 if args.device == 'cuda' else 2048
    dtype = torch.bfloat16 if args.bf16 or args.amp else torch.float32
    matrix = torch.randn(side, side, device=args.device).to(dtype)
    product = Timer('matrix @ matrix', globals={'matrix': matrix}, num_threads=args.threads)
    return 2 * side**3 / min(product.blocked_autorange(min_run_time=1.0).times)


def counted(own: Any, data: Mapping[str, Any], wrapper: OptimWrapper) -> tuple[float, float]:
    """Operations of a training step, and of the backbone's forward pass alone, in units of 1e12."""
    with measure.operations() as step:
        train_step(own, data, wrapper)
    images = own.data_preprocessor(copied(data), True)['inputs']
    with torch.no_grad(), measure.operations() as forward:
        own.backbone(images)
    return step.get_total_flops() / measure.TERA, forward.get_total_flops() / measure.TERA


def measured(
    built: Mapping[str, Built], plan: Mapping[str, Planned], args: argparse.Namespace
) -> dict[str, measure.Row]:
    """Seconds per step, medians, ratios and operations, by config and kind of step."""
    # Of variants they are the same: how they are done differs.
    counts = {id(plan[n][0]): counted(*own) for n, own in built.items() if not plan[n][1]}
    steps = {(name, 'train'): partial(train_step, *own) for name, own in built.items()}
    if not args.no_inference:
        steps |= {(name, 'inference'): partial(inference, args, *built[name]) for name in built}

    def reset(key: tuple[str, str]) -> None:
        built[key[0]][0].train(key[1] == 'train').zero_grad()

    found = measure.in_turns(steps, args, reset)
    rows: dict[str, measure.Row] = {name: {} for name in built}
    floor = next((n for n, (c, _) in plan.items() if c.model.backbone.tuner.type == 'BitFit'), '')
    for (name, kind), row in found.items():
        row['images_per_second'] = args.batch / row['seconds']
        row['ratio'] = measure.ratio(row, found[next(iter(built)), kind])
        row['ratio_to_floor'] = measure.ratio(row, found.get((floor, kind)))
        rows[name][kind] = row
    for name, row in rows.items():
        row['train']['tflops'], row['trunk_tflops'] = counts[id(plan[name][0])]
        row['trained_parameters'] = measure.parameters(built[name][0])
    return rows


def profiled(built: Built, device: str) -> tuple[dict[str, float], str]:
    """Seconds of a training step by operator, each without what it calls, and their table."""
    built[0].train()
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == 'cuda' else [])
    with profile(activities=kinds) as found:
        train_step(*built)
    key = f'self_{"device" if device == "cuda" else "cpu"}_time_total'
    averages = found.key_averages()
    spent = {e.key: getattr(e, key) / 1e6 for e in averages}
    longest = dict(sorted(spent.items(), key=lambda item: -item[1])[:OPERATORS])
    return longest, averages.table(sort_by=key, row_limit=OPERATORS)


def table_of(rows: Mapping[str, measure.Row]) -> str:
    """Rows as Markdown."""
    kinds = {'train': 'training', 'inference': 'inference'}
    flat = {
        name: row | {(kind, key): v for kind in kinds for key, v in row.get(kind, {}).items()}
        for name, row in rows.items()
    }
    columns: dict[str, tuple[Any, str]] = {}
    for kind, word in kinds.items():
        if kind in next(iter(rows.values())):
            columns[f'{word}, s'] = (kind, 'seconds'), '.3f'
            columns[f'{word}, images/s'] = (kind, 'images_per_second'), '.2f'
            columns[f'{word}, of the first'] = (kind, 'ratio'), '.3f'
            columns[f'{word}, of bias only'] = (kind, 'ratio_to_floor'), '.3f'
    columns['peak MiB'] = 'peak_memory_mib', ',.0f'
    columns['TFLOP/step'] = ('train', 'tflops'), '.3f'
    columns['TFLOP, trunk forward'] = 'trunk_tflops', '.3f'
    columns['of peak'] = 'share_of_peak', '.0%'
    columns['trained'] = 'trained_parameters', ',d'
    return measure.table('config', columns, flat)
