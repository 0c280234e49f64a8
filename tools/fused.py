"""A step of AdamW, plain and fused: ``python tools/fused.py``, of what a tuner trains in a ViT.

The forms run in turns on the same tensors with random gradients; medians in milliseconds, of
processor time in one thread on a CPU, of time on a clock elsewhere.
"""

import argparse
import statistics
from typing import Any

import bench
import torch
from torch import nn

from mmsigma import launch

FORMS: dict[str, dict[str, Any]] = {
    'plain': {},
    'foreach': dict(foreach=True),
    'fused': dict(fused=True),
}
TUNERS = ('SIGMA', 'Full')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--model', default=bench.SMALL, help="timm's name")
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--repeats', type=int, default=9, help='timed rounds; default 9')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)
    print(f'| tuner | tensors | values | {" | ".join(FORMS)} |\n|---|{"--:|" * (2 + len(FORMS))}')
    for tuner in TUNERS:
        model, _ = bench.build(bench.Case(args.model, 64, 64, 1), dict(type=tuner), args.device)
        trained = [p for p in model.parameters() if p.requires_grad]
        times = [f'{t:.2f}' for t in measure(trained, args)]
        values = sum(p.numel() for p in trained)
        print(f'| {tuner} | {len(trained)} | {values:,} | {" | ".join(times)} |', flush=True)


def measure(trained: list[nn.Parameter], args: argparse.Namespace) -> list[float]:
    """Milliseconds of a step of each form."""
    for parameter in trained:
        parameter.grad = torch.randn_like(parameter)
    clock = bench.CLOCKS['cpu' if args.device == 'cpu' else 'wall']
    optimizers = [torch.optim.AdamW(trained, lr=1e-4, **form) for form in FORMS.values()]
    times: list[list[float]] = [[] for _ in optimizers]
    for repeat in range(args.repeats + 1):
        for optimizer, found in zip(optimizers, times, strict=True):
            bench.synchronize(args.device)
            begin = clock()
            optimizer.step()
            bench.synchronize(args.device)
            if repeat:  # the first makes the state
                found.append(1000 * (clock() - begin))
    return [statistics.median(found) for found in times]


if __name__ == '__main__':
    launch.run(main)
