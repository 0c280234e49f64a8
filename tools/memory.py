"""Count what a training step of SIGMA keeps: ``python tools/memory.py [--write PAGE]``.

Bytes of weights, and of what the forward pass of the backbone leaves for the backward pass, by
precision, with and without activation checkpointing. Nothing is timed, and weights are random.
"""

import argparse

import torch
from mmengine.registry import init_default_scope
from torch import nn

from mmsigma import launch
from mmsigma.analysis.kept import kept
from mmsigma.analysis.pages import put
from mmsigma.backbone import AdaptedBackbone

HEADER = """\
| trunk stored in | autocast | frozen parameters | trained parameters | kept | kept, `with_cp` |
|---|---|--:|--:|--:|--:|"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--model', default='vit_base_patch16_siglip_512', help="timm's name")
    parser.add_argument('--size', type=int, default=512, help='side of the one image, in pixels')
    parser.add_argument('--write', metavar='PAGE', help='put the table into its place in a page')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    init_default_scope('mmsigma')
    rows = [
        row(args, stored, autocast)
        for stored in ('float32', 'bfloat16', 'int8')
        for autocast in (None, 'bfloat16')
    ]
    table = '\n'.join([HEADER, *rows])
    print(table)
    if args.write:
        put(args.write, 'tools/memory.py', table)


def row(args: argparse.Namespace, stored: str, autocast: str | None) -> str:
    """A row of the table, in MiB."""
    image = torch.randn(1, 3, args.size, args.size)
    trunk = dict(type='TimmViT', model_name=args.model, weights='random', dtype=stored)
    values = []
    for with_cp in (False, True):
        backbone = AdaptedBackbone(trunk, dict(type='SIGMA'), autocast=autocast, with_cp=with_cp)
        values.append(kept(backbone, image))
    sizes = [weights(backbone, trained) for trained in (False, True)]
    cells = [f'{value / 2**20:.1f}' for value in (*sizes, *values)]
    return f'| {stored} | {autocast or "none"} | {" | ".join(cells)} |'


def weights(module: nn.Module, trained: bool) -> int:
    """Bytes of the parameters that train, or of all the rest: scales of int8 are buffers."""
    tensors = (*module.parameters(), *module.buffers())
    return sum(t.nbytes for t in tensors if t.requires_grad is trained)


if __name__ == '__main__':
    launch.run(main)
