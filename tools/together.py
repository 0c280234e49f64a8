"""Time tasks that share one pass of a trunk: ``python tools/together.py [--write PAGE]``.

Backbones with SIGMA in their last blocks, on one trunk, are given one image: one by one, and
together. Weights are random. Processor time on one thread, unless ``--clock`` says wall time.
"""

import argparse
import statistics
import time

import torch
from mmengine.registry import init_default_scope

from mmsigma import launch
from mmsigma.analysis.pages import put
from mmsigma.backbone import AdaptedBackbone
from mmsigma.one_pass import one_pass, shared_blocks
from mmsigma.registry import TRUNKS, build

HEADER = """\
| tasks | blocks shared | one by one, s | together, s | ratio | ratio by blocks |
|--:|--:|--:|--:|--:|--:|"""
CLOCKS = {'cpu': time.process_time, 'wall': time.perf_counter}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--model', default='vit_small_patch14_dinov2', help="timm's name")
    parser.add_argument('--size', type=int, nargs=2, default=(336, 448), help='height and width')
    parser.add_argument('--tasks', type=int, nargs='+', default=(2, 4), help='how many at once')
    parser.add_argument(
        '--adapted', type=int, nargs='+', default=(0, 3, 6, 12), help='how many last blocks adapt'
    )
    parser.add_argument('--repeats', type=int, default=7, help='rounds, of which medians are taken')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--clock', choices=CLOCKS, default='cpu')
    parser.add_argument('--write', metavar='PAGE', help='put the table into its place in a page')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    init_default_scope('mmsigma')
    trunk = build(TRUNKS, dict(type='TimmViT', model_name=args.model, weights='random'))
    trunk.requires_grad_(False)
    image = torch.randn(1, 3, *args.size)
    rows = [HEADER]
    print(HEADER)
    for adapted in args.adapted:
        for count in args.tasks:
            rows.append(row(args, image, [backbone(trunk, adapted) for _ in range(count)]))
            print(rows[-1], flush=True)
    if args.write:
        put(args.write, 'tools/together.py', '\n'.join(rows))


def backbone(trunk: torch.nn.Module, adapted: int) -> AdaptedBackbone:
    """With SIGMA behind the last ``adapted`` blocks; frozen if that is 0."""
    tuner = dict(type='SIGMA', blocks=list(range(-adapted, 0))) if adapted else dict(type='Frozen')
    return AdaptedBackbone(trunk, tuner, out_indices=[-1]).eval()


def row(args: argparse.Namespace, image: torch.Tensor, backbones: list[AdaptedBackbone]) -> str:
    """A row of the table; the two ways take turns, and ratios are taken within a round."""
    clock = CLOCKS[args.clock]
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(args.repeats + 1):
        for together in (False, True):
            start = clock()
            run(image, backbones, together)
            if turn:  # the first warms up
                seconds[together].append(clock() - start)
    alone, both = (statistics.median(seconds[way]) for way in (False, True))
    ratio = statistics.median(b / a for a, b in zip(seconds[False], seconds[True], strict=True))
    depth, shared = backbones[0].out_indices[-1] + 1, shared_blocks(backbones[0])
    blocks = (shared + len(backbones) * (depth - shared)) / (len(backbones) * depth)
    return (
        f'| {len(backbones)} | {shared} of {depth} | {alone:.3f} | {both:.3f} | {ratio:.2f} '
        f'| {blocks:.2f} |'
    )


def run(image: torch.Tensor, backbones: list[AdaptedBackbone], together: bool) -> None:
    """Every backbone on the image."""
    with torch.no_grad():
        if not together:
            for own in backbones:
                own(image)
            return
        with one_pass(backbones):
            for own in backbones:
                own(image)


if __name__ == '__main__':
    launch.run(main)
