"""Time of adapters alone: SIGMA's module against Mona's pair, both in both forms.

    python tools/module.py [--shapes WIDTH:HEIGHTxWIDTH:BATCH ...] [--bf16] [--json OUT]
                           [--write PAGE]

Forward and backward of what a method adds to one block: one SIGMA adapter, or Mona's two, with
their residuals, on tokens of noise with a class token. The forms run in turns, forwards and
backwards by round; seconds are medians, a ratio is the median of the ratios within a round to
Mona's pair in plain PyTorch.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import bench
import torch
from torch import Tensor, nn

from mmsigma import launch
from mmsigma.analysis.pages import put
from mmsigma.files import write
from mmsigma.layout import TokenLayout
from mmsigma.tuners.depthwise import FORMS
from mmsigma.tuners.mona import MonaAdapter
from mmsigma.tuners.sigma import SIGMA, SIGMAAdapter

# Width and grid of ViT-S/14 at 224x308, of ViT-B/16 at 512x512.
SHAPES = {'cpu': ['384:16x22:4', '768:32x32:1'], 'cuda': ['768:32x32:16', '1024:32x32:16']}
REFERENCE = 'Mona, two, plain'


class Residuals(nn.Module):
    """Adapters one behind the other, each added to the tokens."""

    def __init__(self, *adapters: nn.Module) -> None:
        super().__init__()
        self.adapters = nn.ModuleList(adapters)

    def forward(self, tokens: Tensor, layout: TokenLayout) -> Tensor:
        """Tokens ``(B, N, C)`` with every update."""
        for adapter in self.adapters:
            tokens = tokens + adapter(tokens, layout)
        return tokens


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = 'cuda' if torch.cuda.is_available() else 'cpu'
    parser.add_argument('--device', choices=['cpu', 'cuda'], default=default)
    parser.add_argument('--shapes', nargs='+', metavar='WIDTH:HEIGHTxWIDTH:BATCH')
    parser.add_argument('--bf16', action='store_true', help='under bfloat16 autocast')
    parser.add_argument('--repeats', type=int, default=30, help='timed rounds (default 30)')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--clock', choices=sorted(bench.CLOCKS), default='wall')
    parser.add_argument('--json', type=Path, metavar='OUT', help='write all measurements there')
    parser.add_argument('--write', metavar='PAGE', help='put the table into its place in a page')
    args = parser.parse_args()
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda, but PyTorch finds no GPU; use --device cpu')
    if args.clock == 'cpu' and (args.device != 'cpu' or args.threads != 1):
        parser.error('--clock cpu means little without --device cpu --threads 1')
    if min(args.repeats, args.threads) < 1:
        parser.error('--repeats and --threads must be at least 1')
    try:
        args.shapes = {text: shape(text) for text in args.shapes or SHAPES[args.device]}
    except ValueError:
        parser.error('--shapes are WIDTH:HEIGHTxWIDTH:BATCH, such as 384:16x22:4')
    return args


def shape(text: str) -> tuple[int, int, int, int]:
    """Channels, height and width in tokens, and batch."""
    channels, size, batch = text.split(':')
    height, width = map(int, size.split('x'))
    return int(channels), height, width, int(batch)


def variants(width: int) -> dict[str, nn.Module]:
    """What each method adds to one block, without dropout, the reference first."""
    made: dict[str, nn.Module] = {}
    for form in reversed(FORMS):
        pair = (MonaAdapter(width, 64, 0.0, False, form) for _ in range(2))
        made[f'Mona, two, {form}'] = Residuals(*pair)
    for form in reversed(FORMS):
        made[f'SIGMA, {form}'] = Residuals(SIGMAAdapter(width, 64, True, SIGMA(form=form)))
    for parameter in (p for module in made.values() for p in module.parameters()):
        if not parameter.any():  # as after some training
            nn.init.normal_(parameter, std=0.02)
    return made


def measure(args: argparse.Namespace, text: str) -> dict[str, dict[str, Any]]:
    """Seconds and ratios, by variant."""
    channels, height, width, batch = args.shapes[text]
    torch.manual_seed(0)
    layout = TokenLayout(height, width, 1, True)
    tokens = torch.randn(batch, 1 + height * width, channels, device=args.device)
    tokens.requires_grad_()
    built = {name: module.to(args.device) for name, module in variants(channels).items()}
    seconds: dict[str, list[float]] = {name: [] for name in built}
    for turn in range(-3, args.repeats):  # the first are for warming up
        for name in built if turn % 2 == 0 else reversed(built):
            built[name].zero_grad(set_to_none=True)
            tokens.grad = None
            bench.synchronize(args.device)
            start = bench.CLOCKS[args.clock]()
            with torch.autocast(args.device, torch.bfloat16, enabled=args.bf16):
                out = built[name](tokens, layout)
            out.backward(torch.ones_like(out))
            bench.synchronize(args.device)
            if turn >= 0:
                seconds[name].append(bench.CLOCKS[args.clock]() - start)
    reference = seconds[REFERENCE]
    return {
        name: {
            'seconds': statistics.median(taken),
            'speed': statistics.median(b / a for a, b in zip(taken, reference, strict=True)),
            'parameters': sum(p.numel() for p in built[name].parameters()),
            'all_seconds': taken,
        }
        for name, taken in seconds.items()
    }


def table(results: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Milliseconds and times as fast, by variant and shape, as Markdown."""
    columns = (f'{text}, ms | times as fast' for text in results)
    lines = [f'| adapters of a block | {" | ".join(columns)} |']
    lines.append('|---' + '|--:' * (2 * len(results)) + '|')
    for name in next(iter(results.values())):
        cells = (
            f'{r[name]["seconds"] * 1e3:.2f} | {r[name]["speed"]:.2f}' for r in results.values()
        )
        lines.append(f'| {name} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    header = bench.header(args.device, args.threads, args.repeats, args.bf16, args.clock)
    for name, value in header.items():
        print(f'{name}: {value}')
    results = {text: measure(args, text) for text in args.shapes}
    print(f'\n{table(results)}')
    if args.json:
        write(
            args.json, (json.dumps({'header': header, 'shapes': results}, indent=2) + '\n').encode()
        )
    if args.write:
        put(args.write, 'tools/module.py', table(results))


if __name__ == '__main__':
    launch.run(main)
