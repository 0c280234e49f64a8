"""Time and memory of whole models, head and losses included, on generated images.

    python tools/benchmark.py CONFIG ... [--size HEIGHTxWIDTH] [--batch N] [--bf16] [--json OUT]
                              [--compile] [--channels-last]

Weights are random and no data is read: a training step is the data preprocessor, forward and
backward of the config's model on images of noise with a few objects, without optimiser; inference
is mmseg's or mmdet's own ``test_step``. The configs run in turns, forwards and backwards by round;
a ratio is the median over rounds of the ratio to the first config. Peak memory is measured as
``tools/bench.py`` does, which times backbones alone. ``--compile`` and ``--channels-last`` run each
config once more, so, without peak memory; seconds of the first turn are in the JSON, with the
time that compiling took.
"""

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import bench
import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData
from mmengine.utils import import_modules_from_strings
from torch import nn

from mmsigma import launch
from mmsigma.compiled import Compiled
from mmsigma.errors import InvalidSettingError
from mmsigma.injection import run_block

OBJECTS = 8  # per image; COCO has seven on average
CLASSES = 8  # labels below this, which every head here has


def compile_blocks(model: Any) -> None:
    """As ``backbone=dict(compile=True)`` builds it."""
    model.backbone.adapters.compiled = Compiled(run_block, {})


def channels_last(model: Any) -> None:
    """Neck and heads; the first convolution turns the backbone's maps, and all behind it follow."""
    for name, part in model.named_children():
        if name not in ('backbone', 'data_preprocessor'):
            part.to(memory_format=torch.channels_last)


# Name of the option: what it does, and how, to a model that is built.
VARIANTS: dict[str, tuple[str, Callable[[nn.Module], None]]] = {
    'compile': ('with model.backbone.compile=True', compile_blocks),
    'channels-last': ('with neck and heads in channels-last order', channels_last),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='+', metavar='config', help='the first is the reference')
    launch.add_arguments(parser)
    parser.add_argument('--size', type=size, default=(512, 512), help='HEIGHTxWIDTH; 512x512')
    parser.add_argument('--batch', type=int, default=1, help='images; default 1')
    parser.add_argument('--repeats', type=int, default=3, help='timed rounds; default 3')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--bf16', action='store_true', help='bfloat16 in trunk and adapters')
    for name, (text, _) in VARIANTS.items():
        parser.add_argument(f'--{name}', action='store_true', help=f'each config also {text}')
    parser.add_argument('--no-inference', action='store_true', help='training steps alone')
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
    configs = {Path(path).stem: load(args, path) for path in args.configs}
    if len(configs) < len(args.configs):
        raise InvalidSettingError(f'A config is named twice: {", ".join(args.configs)}.')
    header = bench.header(args.device, args.threads, args.repeats, args.bf16, 'wall')
    header |= {'size': list(args.size), 'batch': args.batch}
    for name, value in header.items():
        print(f'{name}: {value}')
    peaks = {name: peak(config, args) for name, config in configs.items()}
    rows = measure(configs, args)
    for name, row in rows.items():
        peak_memory = peaks.get(name)  # variants: not measured
        row['peak_memory_mib'] = None if peak_memory is None else peak_memory / bench.MIB
    print(f'\n{table(rows)}')
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({'header': header, 'configs': rows}, indent=2) + '\n')


def load(args: argparse.Namespace, path: str) -> Config:
    """A config whose model needs no weights."""
    config = launch.load_config(argparse.Namespace(**{**vars(args), 'config': path}))
    import_modules_from_strings(**config.custom_imports)
    backbone = config.get('model', {}).get('backbone', {})
    if 'trunk' not in backbone:
        raise InvalidSettingError(f'{path} has no model.backbone.trunk: nothing to adapt there.')
    backbone.trunk.weights = 'random'
    if args.bf16:
        backbone.autocast = 'bfloat16'
    return config


def build(config: Config, args: argparse.Namespace) -> tuple[nn.Module, dict[str, Any]]:
    """The config's model in training mode, and a batch for its data preprocessor."""
    torch.manual_seed(0)
    init_default_scope(config.get('default_scope', 'mmengine'))
    model = MODELS.build(config.model)
    model.init_weights()
    for name, parameter in model.named_parameters():
        if '.adapters.' in name and not parameter.any():  # as after some training
            nn.init.normal_(parameter, std=0.02)
    make = samples_of_mmdet if config.default_scope == 'mmdet' else samples_of_mmseg
    images = [torch.randint(0, 256, (3, *args.size), dtype=torch.uint8) for _ in range(args.batch)]
    data = {'inputs': images, 'data_samples': make(args.size, args.batch)}
    return model.to(args.device).train(), data


def samples_of_mmseg(size: tuple[int, int], batch: int) -> list[Any]:
    """Random label maps."""
    from mmseg.structures import SegDataSample

    meta = dict(img_shape=size, ori_shape=size, pad_shape=size)
    labels = [torch.randint(0, 2, (1, *size)) for _ in range(batch)]
    return [
        SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=dict(meta)) for label in labels
    ]


def samples_of_mmdet(size: tuple[int, int], batch: int) -> list[Any]:
    """Random boxes with the masks of rectangles, and a map of one label."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    samples = []
    for _ in range(batch):
        corners = torch.rand(OBJECTS, 2, 2).sort(dim=1).values * torch.tensor(size[::-1])
        corners[:, 1] = corners[:, 1].maximum(corners[:, 0] + 8).minimum(torch.tensor(size[::-1]))
        corners[:, 0] = corners[:, 0].minimum(corners[:, 1] - 8)
        boxes = corners.flatten(1)
        masks = np.zeros((OBJECTS, *size), np.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
            mask[top:bottom, left:right] = 1
        sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, img_id=0))
        sample.gt_instances = InstanceData(
            bboxes=HorizontalBoxes(boxes),
            labels=torch.randint(0, CLASSES, (OBJECTS,)),
            masks=BitmapMasks(masks, *size),
        )
        sample.ignored_instances = InstanceData(
            bboxes=HorizontalBoxes(torch.zeros(0, 4)), labels=torch.zeros(0)
        )
        sample.gt_sem_seg = PixelData(sem_seg=torch.zeros((1, *size), dtype=torch.uint8))
        samples.append(sample)
    return samples


def train_step(model: nn.Module, data: Mapping[str, Any]) -> None:
    """Forward and backward."""
    model.zero_grad(set_to_none=True)
    batch = model.data_preprocessor({**data, 'data_samples': copies(data)}, True)
    loss, _ = model.parse_losses(model(**batch, mode='loss'))
    loss.backward()
    bench.synchronize(next(model.parameters()).device.type)


def copies(data: Mapping[str, Any]) -> list[Any]:
    """Samples of their own for each step: heads change them."""
    return [sample.clone() for sample in data['data_samples']]


def inference(model: nn.Module, data: Mapping[str, Any]) -> None:
    """From images to predictions."""
    with torch.no_grad():
        model.test_step({**data, 'data_samples': copies(data)})
    bench.synchronize(next(model.parameters()).device.type)


def measure(configs: Mapping[str, Config], args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Seconds per step, medians and ratios to the first config."""
    built = {name: build(config, args) for name, config in configs.items()}
    for config in configs:
        for option, (_, change) in VARIANTS.items():
            if getattr(args, option.replace('-', '_')):
                model, data = build(configs[config], args)
                change(model)
                built[f'{config}, {option}'] = model, data
    kinds = {'train': train_step} | ({} if args.no_inference else {'inference': inference})
    seconds: dict[str, dict[str, list[float]]] = {
        name: {kind: [] for kind in kinds} for name in built
    }
    warmup: dict[str, dict[str, float]] = {name: {} for name in built}
    for turn in range(-1, args.repeats):  # the first is for warming up
        for name in built if turn % 2 == 0 else reversed(built):
            model, data = built[name]
            for kind, run in kinds.items():
                model.train(kind == 'train')
                start = time.perf_counter()
                run(model, data)
                taken = time.perf_counter() - start
                if turn < 0:
                    warmup[name][kind] = taken
                else:
                    seconds[name][kind].append(taken)
            model.zero_grad(set_to_none=True)
        bench.say(f'round {turn + 1} of {args.repeats}')
    first = seconds[next(iter(seconds))]
    rows: dict[str, dict[str, Any]] = {}
    for name, taken in seconds.items():
        parameters = built[name][0].parameters()
        rows[name] = {'trained_parameters': sum(p.numel() for p in parameters if p.requires_grad)}
        for kind in kinds:
            ratios = (a / b for a, b in zip(taken[kind], first[kind], strict=True))
            rows[name][kind] = {
                'seconds': statistics.median(taken[kind]),
                'ratio': statistics.median(ratios),
                'all_seconds': taken[kind],
                'first_seconds': warmup[name][kind],
            }
    return rows


def peak(config: Config, args: argparse.Namespace) -> int | None:
    """Peak bytes that a training step takes on top of the model."""
    if args.device != 'cpu':
        model, data = build(config, args)
        train_step(model, data)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        train_step(model, data)
        return torch.cuda.max_memory_allocated() - before
    return bench.in_process(_peak_resident, args.threads, config, args)


def _peak_resident(config: Config, args: argparse.Namespace) -> int:
    model, data = build(config, args)
    gc.collect()
    return bench.growth(lambda: train_step(model, data))


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Rows as Markdown."""
    kinds = [kind for kind in ('train', 'inference') if kind in next(iter(rows.values()))]
    head = ['config', *(f'{kind}, s | of the first' for kind in kinds), 'peak MiB', 'trained']
    lines = [f'| {" | ".join(head)} |', '|---' + '|--:' * (2 * len(kinds) + 2) + '|']
    for name, row in rows.items():
        times = [f'{row[k]["seconds"]:.3f} | {row[k]["ratio"]:.3f}' for k in kinds]
        memory = row['peak_memory_mib']
        cells = [name, *times, '' if memory is None else f'{memory:,.0f}']
        lines.append(f'| {" | ".join(cells)} | {row["trained_parameters"]:,} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    launch.run(main)
