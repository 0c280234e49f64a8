"""Recipes: list those that there can be, or write one.

::

    python tools/configs.py --benchmarks
    python tools/configs.py [--benchmark 'ade20k-*'] [--trunk 'dino*-b'] [--tuner lora] [--count]
    python tools/configs.py --write --benchmark voc-1x --trunk swin-b --tuner lora --head retinanet
"""

import argparse
from pathlib import Path

from mmsigma.checkpoint.atomic_write import write
from mmsigma.engine import launch
from mmsigma.errors import InvalidSettingError

BASE = Path(__file__).resolve().parent.parent / 'configs/_base_'
PARTS = ('benchmark', 'tuner', 'trunk', 'head')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='List or write recipes.')
    for part in PARTS:
        parser.add_argument(f'--{part}', metavar='NAME', help='a name, or a pattern such as dino*')
    parser.add_argument('--benchmarks', action='store_true', help='list the benchmarks, and heads')
    parser.add_argument('--count', action='store_true', help='how many there are, by benchmark')
    parser.add_argument(
        '--write', action='store_true', help='write the recipe of these names; print its path'
    )
    parser.add_argument('--print', action='store_true', help='print the recipe of these names')
    return parser.parse_args()


def main() -> None:
    args = parse_args()

    from mmsigma.config import combinations

    if args.write or args.print:
        put(args)
    elif args.benchmarks:
        for name, about in combinations.benchmarks(BASE).items():
            print(f'{name:<32}{" ".join(combinations.heads(BASE, about["data"]))}')
    else:
        show(args)


def show(args: argparse.Namespace) -> None:
    """Every combination that fits the patterns: as names of recipes, or their number."""
    from mmsigma.config import combinations

    patterns = {part: getattr(args, part) or '*' for part in PARTS}
    counts: dict[str, int] = {}
    for benchmark, tuner, trunk, head in combinations.names(BASE, **patterns):
        counts[benchmark] = counts.get(benchmark, 0) + 1
        if not args.count:
            print(f'{tuner}_{trunk}_{head}_{benchmark}')
    if args.count:
        for benchmark, count in counts.items():
            print(f'{benchmark:<32}{count:>8,}')
        print(f'{"all":<32}{sum(counts.values()):>8,}')


def put(args: argparse.Namespace) -> None:
    """One recipe, printed or written to where it belongs.

    Raises:
        InvalidSettingError: A part is not named, or another file has the name.
    """
    from mmsigma.config import combinations, recipe

    missing = [f'--{part}' for part in PARTS if not getattr(args, part)]
    if missing:
        raise InvalidSettingError(f'A recipe needs one of each; add {", ".join(missing)}.')
    path, bases = combinations.compose(BASE, **{part: getattr(args, part) for part in PARTS})
    text = recipe.text(bases, path.parent)
    if args.print:
        print(text, end='')
        return
    if path.exists() and path.read_text() != text:
        raise InvalidSettingError(f'{path} exists and says something else. Move it away first.')
    write(path, text.encode())
    print(path)


if __name__ == '__main__':
    launch.run(main)
