"""What each precision of the trunk costs in accuracy, and in time: ``python tools/precision.py``.

By storage and autocast, of SIGMA as it is built: the relative error of each map against float64,
in the norm, the largest of the maps; and the time of a training step, forward and backward pass of
the backbone, as a share of float32's: median of the ratios within a round, processor time.
"""

import argparse
import statistics

import bench
import torch
from mmengine.registry import init_default_scope

from mmsigma import launch
from mmsigma.analysis.pages import put
from mmsigma.backbone import AdaptedBackbone

HEADER = """\
| trunk stored in | autocast | error of the maps | time of a step / float32 |
|---|---|--:|--:|"""
FORMS = [('float32', None), ('float32', 'bfloat16'), ('bfloat16', 'bfloat16')]
FORMS += [('int8', None), ('int8', 'bfloat16')]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--model', default='vit_small_patch14_dinov2', help="timm's name")
    parser.add_argument('--weights', default='random', help='a file of weights; random by default')
    parser.add_argument('--size', type=int, default=448, help='side of the one image, in pixels')
    parser.add_argument('--repeats', type=int, default=7, help='timed rounds; default 7')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--write', metavar='PAGE', help='put the table into its place in a page')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    init_default_scope('mmsigma')
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    image = torch.randn(1, 3, args.size, args.size)
    models = [build(args, *form) for form in FORMS]
    with torch.no_grad():
        exact = build(args, 'float32', None).double()(image.double())
        errors = [
            max(float((m - e).norm() / e.norm()) for m, e in zip(model(image), exact, strict=True))
            for model in models
        ]
    del exact
    times: list[list[float]] = [[] for _ in FORMS]
    for repeat in range(args.repeats + 1):
        for model, taken in zip(models, times, strict=True):
            seconds = bench.timed_step(model, image, True, False, 'cpu')
            if repeat:  # the first warms up
                taken.append(seconds)
    rows = []
    for (stored, autocast), error, taken in zip(FORMS, errors, times, strict=True):
        ratio = statistics.median(a / b for a, b in zip(taken, times[0], strict=True))
        rows.append(f'| {stored} | {autocast or "none"} | {100 * error:.2g} % | {ratio:.2f} |')
    table = '\n'.join([HEADER, *rows])
    print(table)
    if args.write:
        put(args.write, 'tools/precision.py', table)


def build(args: argparse.Namespace, stored: str, autocast: str | None) -> AdaptedBackbone:
    """A backbone; the same seed for all, so that random weights agree."""
    torch.manual_seed(0)
    trunk = dict(type='TimmViT', model_name=args.model, weights=args.weights, dtype=stored)
    return AdaptedBackbone(trunk, dict(type='SIGMA'), autocast=autocast).train()


if __name__ == '__main__':
    launch.run(main)
