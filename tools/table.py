"""Table of a grid's records: ``python tools/table.py RECORDS ... [--format md|latex|csv]``."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmsigma.checkpoint.atomic_write import write
from mmsigma.engine import launch
from mmsigma.errors import InvalidSettingError
from mmsigma.experiments import formats, pages, plots, published, tables

PUBLISHED = Path(__file__).parents[1] / 'results/published.yaml'


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='One row per method, at the rate that validation chooses: mean, and standard '
        'deviation over seeds.'
    )
    add_arguments(parser)
    parser.add_argument('--format', choices=formats.FORMATS, default='md', help='default md')
    parser.add_argument('--write', metavar='PAGE', help='put the table into its place in a page')
    parser.add_argument('--out', metavar='FILE', help='write the table there, not to the terminal')
    parser.add_argument('--plot', metavar='PNG', help='draw the metric against the trained share')
    args = parser.parse_args(arguments)
    if args.write and args.format != 'md':
        parser.error('--write puts Markdown into a page; use --out for other formats')
    return args


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what a table is made of."""
    parser.add_argument(
        'records', nargs='+', help='folders of records, such as results/camvid_peft'
    )
    parser.add_argument(
        '--metric',
        action='append',
        metavar='NAME',
        help='a metric of the table, once for each; the first compares the runs. Default: what '
        'the grid compares',
    )
    parser.add_argument('--cost', help='JSON of benchmark.py backbone --tuners: times and memory')
    parser.add_argument(
        '--published', default=PUBLISHED, help='figures of others; default results/published.yaml'
    )


def contents(
    args: argparse.Namespace, records: Sequence[tables.Record]
) -> tuple[tables.Comparison, formats.Table]:
    """What these records say, and its table, as a command line wants them.

    Raises:
        InvalidSettingError: Something that it names cannot be read.
    """
    compared = next((r['metric'] for r in records if r.get('metric')), 'mIoU')
    metrics = list(dict.fromkeys(args.metric or [compared]))
    found = tables.compare(records, metrics, cost(args.cost) if args.cost else None)
    return found, formats.table(found, published.read(args.published))


def cost(path: str) -> dict[str, Any]:
    """Seconds and memory by method, as ``benchmark.py`` measured them."""
    try:
        (case,) = json.loads(Path(path).read_text())['cases']
        return case['variants']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidSettingError(
            f'--cost {path} is no result of benchmark.py backbone with one case: {error}.'
        ) from error


def main() -> None:
    args = parse_args()
    found, table = contents(args, tables.load(args.records))
    text = formats.FORMATS[args.format](table)
    if args.write:
        pages.put(args.write, ' '.join(['tools/table.py', *args.records]), text.strip())
    if args.out:
        write(args.out, text.encode())
    else:
        print(text, end='')
    if args.plot:
        plots.save(plots.against_share(found), args.plot)


if __name__ == '__main__':
    launch.run(main)
