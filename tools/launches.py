"""How much of a backbone's step a GPU computes, and how much it waits to be told what.

    python tools/launches.py [--shape MODEL:HEIGHTxWIDTH:BATCH] [--tuners NAME ...] [--compile]
                             [--cuda-graphs] [--json OUT]

A step is one forward and backward pass in bfloat16, without head and optimiser, of random weights
and images of noise. *Step* is the time from its start to its end, the median of several; *started*
how long Python and PyTorch take to start it all; *on the GPU* the sum of the times of its kernels,
and how many they are. Where a step takes as long as starting it, faster kernels win nothing.
Each tuner runs with a trunk in float32 under autocast, and again in bfloat16 where nothing of the
trunk trains.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from mmsigma import launch
from mmsigma.backbone import AdaptedBackbone
from mmsigma.files import write

SHAPE = 'vit_base_patch14_dinov2:512x512:16'
TUNERS = ['Full', 'BitFit', 'SIGMA', 'Frozen']
COLUMNS = ('step', 'started', 'on_the_gpu', 'kernels', 'forward', 'peak_mib')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--shape', type=bench.Case.parse, default=SHAPE, help=f'default {SHAPE}')
    parser.add_argument('--tuners', nargs='+', default=TUNERS, metavar='NAME')
    parser.add_argument('--compile', action='store_true', help='blocks through torch.compile')
    parser.add_argument('--cuda-graphs', action='store_true', help='passes from CUDA graphs')
    parser.add_argument('--repeats', type=int, default=10, help='timed steps (default 10)')
    parser.add_argument('--json', type=Path, metavar='OUT', help='write all measurements there')
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error('needs a GPU, and PyTorch finds none; tools/bench.py measures CPUs')
    return args


def main() -> None:
    args = parse_args()
    header = bench.header('cuda', torch.get_num_threads(), args.repeats, True, 'wall')
    for name, value in header.items():
        print(f'{name}: {value}')
    print(f'\n| tuner | trunk | {" | ".join(COLUMNS)} |')
    print('|---' * 2 + '|--:' * len(COLUMNS) + '|')
    rows = []
    for tuner in args.tuners:
        for dtype in ('float32', 'bfloat16')[: 1 if tuner in bench.TRAIN_TRUNKS else 2]:
            row = measure(args, tuner, dtype)
            rows.append({'tuner': tuner, 'trunk': dtype, **row})
            cells = (f'{row[c]:,.2f}' if c not in ('kernels', 'peak_mib') else f'{row[c]:,.0f}'
                     for c in COLUMNS)  # fmt: skip
            print(f'| {tuner} | {dtype} | {" | ".join(cells)} |', flush=True)
    if args.json:
        write(args.json, (json.dumps({'header': header, 'rows': rows}, indent=2) + '\n').encode())


def measure(args: argparse.Namespace, tuner: str, dtype: str) -> dict[str, float]:
    """Milliseconds, kernels and MiB of a tuner; see :data:`COLUMNS`."""
    case, model = args.shape, build(args, tuner, dtype)
    images = torch.randn(case.batch, 3, case.height, case.width, device='cuda')
    trained = [p for p in model.parameters() if p.requires_grad]

    def step() -> None:
        loss = sum(m.float().square().mean() for m in model(images))
        if trained:
            torch.autograd.grad(loss, trained)

    @torch.no_grad()
    def forward() -> None:
        model(images)

    step()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    seconds, started = timed(step, args.repeats)
    peak = torch.cuda.max_memory_allocated() - before
    on_the_gpu, kernels = kernels_of(step)
    return {
        'step': seconds,
        'started': started,
        'on_the_gpu': on_the_gpu,
        'kernels': kernels,
        'forward': timed(forward, args.repeats)[0],
        'peak_mib': peak / bench.MIB,
    }


def build(args: argparse.Namespace, tuner: str, dtype: str) -> nn.Module:
    """A backbone in training mode, its adapters as after some training."""
    trunk = dict(type='TimmViT', model_name=args.shape.model, weights='random', dtype=dtype)
    with torch.device('cuda'):
        model = AdaptedBackbone(
            trunk, dict(type=tuner), autocast='bfloat16', compile=args.compile,
            cuda_graphs=args.cuda_graphs,
        )  # fmt: skip
    for parameter in model.adapters.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return model.cuda().train()


def timed(run: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median milliseconds until all is done, and until all is started."""
    whole, started = [], []
    for turn in range(-3, repeats):  # the first are for warming up
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        begun = time.perf_counter() - start
        torch.cuda.synchronize()
        if turn >= 0:
            whole.append(1e3 * (time.perf_counter() - start))
            started.append(1e3 * begun)
    return statistics.median(whole), statistics.median(started)


def kernels_of(run: Callable[[], Any]) -> tuple[float, int]:
    """Milliseconds of all kernels of one call, and their number."""
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
        run()
        torch.cuda.synchronize()
    cuda = torch.autograd.DeviceType.CUDA
    own = [e for e in found.events() if e.device_type == cuda and not e.is_user_annotation]
    return sum(e.time_range.elapsed_us() for e in own) / 1e3, len(own)


if __name__ == '__main__':
    launch.run(main)
