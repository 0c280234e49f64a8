"""Print the table of trunks, or write it: ``python tools/trunks.py [--write docs/trunks.md]``."""

import argparse
from pathlib import Path

from mmsigma.engine import launch
from mmsigma.experiments.pages import put

CONFIGS = Path(__file__).parent.parent / 'configs/_base_/trunks'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='What every trunk config is. Needs no weights.')
    parser.add_argument('--write', metavar='page', type=Path, help='put the table into this page')
    return parser.parse_args()


def main() -> None:
    args = parse_args()

    from mmsigma.experiments.trunk_table import table

    found = table(sorted(CONFIGS.glob('*.py')))
    if args.write is None:
        print(found)
        return
    put(args.write, 'tools/trunks.py', found)


if __name__ == '__main__':
    launch.run(main)
