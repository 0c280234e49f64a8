"""Table of a grid's records: ``python tools/table.py RECORDS ... [--write PAGE] [--plot PNG]``."""

import argparse
import json
from pathlib import Path

from mmsigma import launch
from mmsigma.analysis import pages, tables
from mmsigma.errors import InvalidSettingError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='One row per method, at the rate that validation chooses, as Markdown.'
    )
    parser.add_argument(
        'records', nargs='+', help='folders of records, such as results/camvid_peft'
    )
    parser.add_argument('--metric', default='mIoU', help='what compares the runs; default mIoU')
    parser.add_argument('--cost', help='times and memory of tools/bench.py --tuners --json FILE')
    parser.add_argument('--write', metavar='PAGE', help='put the table into its place in a page')
    parser.add_argument('--plot', metavar='PNG', help='draw the metric against the trained share')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cost = None
    if args.cost:
        try:
            (case,) = json.loads(Path(args.cost).read_text())['cases']
            cost = case['variants']
        except (OSError, ValueError, KeyError) as error:
            raise InvalidSettingError(
                f'--cost {args.cost} is no result of tools/bench.py with one case: {error}.'
            ) from error
    table = tables.rows(tables.load(args.records), args.metric, cost)
    text = tables.markdown(table, args.metric)
    if args.write:
        tool = ' '.join(['tools/table.py', *args.records])
        pages.put(args.write, tool, text.strip())
    print(text, end='')
    if args.plot:
        tables.plot(table, args.metric, args.plot)


if __name__ == '__main__':
    launch.run(main)
