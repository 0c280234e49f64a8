"""Report of a grid to look at in a browser: ``python tools/report.py RECORDS ... --out FILE``.

The HTML file is complete in itself. ``--markdown`` also writes a page for the repository, with its
plots beside it.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import table

from mmsigma.checkpoint.atomic_write import write
from mmsigma.engine import launch
from mmsigma.experiments import tables

ROOT = Path(__file__).resolve().parent.parent
GRIDS = 'configs/grids/{}.py'


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Table, plots and predictions of a grid.')
    table.add_arguments(parser)
    parser.add_argument('--out', metavar='HTML', help='where the report goes')
    parser.add_argument('--markdown', metavar='PAGE', help='write a Markdown page too, or alone')
    parser.add_argument('--title', help='default: the names of the folders of records')
    parser.add_argument(
        '--note', action='append', default=[], help='what a reader should know besides, in a line'
    )
    parser.add_argument(
        '--work-dir',
        action='append',
        help='folder of the runs, for their drawn predictions; default work_dirs/<records>',
    )
    parser.add_argument(
        '--reference', help='method that classes are compared with; default frozen, if there is one'
    )
    args = parser.parse_args(arguments)
    if not args.out and not args.markdown:
        parser.error('give --out, --markdown or both')
    return args


def main() -> None:
    command = shlex.join(['python', 'tools/report.py', *sys.argv[1:]])
    args = parse_args()
    make(args, tables.load(args.records), command)


def make(args: argparse.Namespace, records: Sequence[tables.Record], command: str) -> None:
    """Write what a command line asks for.

    Args:
        args: Of :func:`parse_args`.
        records: Of the runs to report.
        command: What the report says that made it.

    Raises:
        InvalidSettingError: Something that the arguments name cannot be read.
        UnknownNameError: A metric or a method that no record has.
    """
    from mmsigma.experiments import report, samples

    rows, metrics, sheet = table.contents(args, records)
    names = [Path(folder).name for folder in args.records]
    folders = [Path(f) for f in args.work_dir or (f'work_dirs/{name}' for name in names)]
    reference = args.reference
    if reference is None and 'frozen' in {row.method for row in rows}:
        reference = 'frozen'
    made = report.Report(
        title=args.title or ', '.join(names),
        command=command,
        records=records,
        rows=rows,
        metrics=metrics,
        sheet=sheet,
        plots=report.draw(rows, metrics, reference),
        cost=args.cost,
        notes=args.note,
        grids=[path for path in map(GRIDS.format, names) if (ROOT / path).is_file()],
        samples=samples.side_by_side(drawn(rows, folders)),
    )
    if args.markdown:
        report.write_markdown(made, args.markdown, table_command(args))
        print(args.markdown)
    if args.out:
        write(args.out, report.as_html(made).encode())
        print(args.out)


def drawn(rows: Sequence[tables.Row], folders: Sequence[Path]) -> dict[str, tuple[Path, int]]:
    """By name of a row, the folder of its first run and the step of its last validation."""
    from mmsigma.experiments.plots import labels

    found = {}
    for row, name in zip(rows, labels(rows), strict=True):
        run = row.runs[0]
        for folder in folders:
            if (folder / run['run']).is_dir() and run['validation']:
                found[name] = (folder / run['run'], run['validation'][-1]['step'])
    return found


def table_command(args: argparse.Namespace) -> str:
    """The command that writes the table of a report into its Markdown page."""
    words = ['python', 'tools/table.py', *args.records]
    for name in args.metric or ():
        words += ['--metric', name]
    if args.cost:
        words += ['--cost', args.cost]
    if args.published != table.PUBLISHED:
        words += ['--published', str(args.published)]
    return shlex.join([*words, '--write', args.markdown])


if __name__ == '__main__':
    launch.run(main)
