"""Print the table of trunks, or write it: ``python tools/trunks.py [--write docs/trunks.md]``."""

import argparse
from pathlib import Path

from mmsigma import launch
from mmsigma.analysis.trunks import table
from mmsigma.files import write

CONFIGS = Path(__file__).parent.parent / 'configs/_base_/trunks'
BEGIN, END = '<!-- table: python tools/trunks.py --write docs/trunks.md -->', '<!-- end -->'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='What every trunk config is. Needs no weights.')
    parser.add_argument('--write', metavar='PAGE', type=Path, help=f'replace what is after {BEGIN}')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    found = table(sorted(CONFIGS.glob('*.py')))
    if args.write is None:
        print(found)
        return
    page = args.write.read_text()
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    write(args.write, f'{before}{BEGIN}\n\n{found}\n\n{END}{after}'.encode())


if __name__ == '__main__':
    launch.run(main)
