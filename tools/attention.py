"""Fused against plain attention, forward and backward: ``python tools/attention.py``.

Plain attention is what ``TIMM_FUSED_ATTN=0`` makes timm's trunks compute. The forms run in turns;
processor time on a CPU, medians, in milliseconds, of random queries, keys and values.
"""

import argparse
import statistics
import time

import torch
from torch import Tensor
from torch.nn import functional as F

from mmsigma import launch

HEADER = """\
| tokens | float32, fused | float32, plain | bfloat16, fused | bfloat16, plain |
|--:|--:|--:|--:|--:|"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--tokens', type=int, nargs='+', default=[400, 913, 2000])
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--heads', type=int, default=6)
    parser.add_argument('--width', type=int, default=64, help='of a head')
    parser.add_argument('--repeats', type=int, default=7, help='timed rounds; default 7')
    parser.add_argument('--threads', type=int, default=1)
    return parser.parse_args()


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of ``(B, heads, N, d)`` by matrix products, as timm computes it."""
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1) @ v


FORMS = (F.scaled_dot_product_attention, plain)


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    print(HEADER)
    for tokens in args.tokens:
        times = [t for dtype in (torch.float32, torch.bfloat16) for t in row(args, tokens, dtype)]
        print(f'| {tokens:,} | {" | ".join(f"{t:.1f}" for t in times)} |', flush=True)


def row(args: argparse.Namespace, tokens: int, dtype: torch.dtype) -> list[float]:
    """Milliseconds of each form."""
    shape = (args.batch, args.heads, tokens, args.width)
    q, k, v = (torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3))
    gradient = torch.randn(shape, dtype=dtype)
    times: list[list[float]] = [[] for _ in FORMS]
    for repeat in range(args.repeats + 1):
        for form, found in zip(FORMS, times, strict=True):
            begin = time.process_time()
            form(q, k, v).backward(gradient)
            if repeat:  # the first warms up
                found.append(1000 * (time.process_time() - begin))
    return [statistics.median(found) for found in times]


if __name__ == '__main__':
    launch.run(main)
