"""Report of a grid as a Markdown page: ``python tools/report.py RECORDS ... --markdown PAGE``.

The page has facts, the table, two plots in a folder ``figures/`` beside it, and IoU by class. All
of it follows from the records, so anybody who has these can write it again.
"""

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import table

from mmsigma.checkpoint.atomic_write import write
from mmsigma.engine import launch
from mmsigma.errors import UnknownNameError, unknown
from mmsigma.experiments import formats, pages, plots, tables

ROOT = Path(__file__).resolve().parent.parent
GRIDS = 'configs/grids/{}.py'
RATES = (
    "A method's learning rate is the one with the best validation after the last step; the test "
    'split chooses nothing, and sees the last weights. Behind ± is the standard deviation over '
    'seeds, where there are several.'
)


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Facts, table and plots of a grid.')
    table.add_arguments(parser)
    parser.add_argument('--markdown', metavar='PAGE', required=True, help='where the page goes')
    parser.add_argument('--title', help='default: the names of the folders of records')
    parser.add_argument(
        '--note', action='append', default=[], help='what a reader should know besides, in a line'
    )
    parser.add_argument(
        '--reference', help='method that classes are compared with; default frozen, if there is one'
    )
    return parser.parse_args(arguments)


def main() -> None:
    args = parse_args()
    make(args, tables.load(args.records), shlex.join(['python', 'tools/report.py', *sys.argv[1:]]))


def make(args: argparse.Namespace, records: Sequence[tables.Record], command: str) -> None:
    """Write the page that a command line asks for, and its plots in ``figures/`` beside it.

    Args:
        args: Of :func:`parse_args`.
        records: Of the runs to report.
        command: What the page says that made it.

    Raises:
        InvalidSettingError: Something that the arguments name cannot be read.
        UnknownNameError: A metric or a method that no record has.
    """
    found, made = table.contents(args, records)
    names = [Path(folder).name for folder in args.records]
    path, label = Path(args.markdown), found.metrics[0].label
    told = facts(args, names, records)
    place = f'<!-- table: {table_command(args)} -->\n\n{formats.markdown(made).strip()}'
    parts = [
        f'# {args.title or ", ".join(names)}',
        f'Written by `{command}`.',
        '\n'.join(f'- {name}: {text}' for name, text in told.items() if text),
        *args.note,
        RATES,
        f'{place}\n\n{pages.END}',
    ]
    for name, caption, figure in (
        ('share', f'{label} against trained parameters', plots.against_share(found)),
        ('curves', f'Validation {label} during training', plots.curves(found)),
    ):
        if figure is not None:
            plots.save(figure, path.parent / f'figures/{name}.png')
            parts.append(f'![{caption}](figures/{name}.png)')
    reference = args.reference or ('frozen' if 'frozen' in set(found.runs.method) else None)
    if reference:
        parts.append(by_class(found, reference))
    write(path, ('\n\n'.join(filter(None, parts)) + '\n').encode())
    print(path)


def by_class(found: tables.Comparison, reference: str) -> str:
    """A Markdown table of differences of IoU by class to a method, in points; mean over seeds.

    Returns:
        The table and a sentence before it: of the test, or without one of the last validation;
        empty where the reference or all others have no scores by class.

    Raises:
        UnknownNameError: There is no such method.
    """
    import pandas

    names = found.labels
    if reference not in {method for method, _ in names}:
        raise UnknownNameError(unknown('method', reference, [method for method, _ in names]))
    scores: dict[str, dict[tuple[str, str], Any]] = {}
    for name, runs in found.runs.groupby(tables.METHOD, sort=False):
        records = [record.get('by_class') or {} for record in runs.record]
        for split in set.intersection(*map(set, records)):
            values = pandas.DataFrame([record[split] for record in records], dtype=float)
            scores.setdefault(split, {})[name] = values.mean(skipna=False)
    split = 'test' if 'test' in scores else 'validation'
    chosen = scores.get(split, {})
    shown = pandas.DataFrame(
        {
            names[method, trunk]: values - chosen[reference, trunk]
            for (method, trunk), values in chosen.items()
            if method != reference and (reference, trunk) in chosen
        }
    ).dropna(how='all')
    if shown.empty:
        return ''
    if len(shown) < len(shown.columns):  # what is longer goes down the page
        shown = shown.T
    cells = shown.map(lambda value: f'{value:+.1f}' if value == value else '')
    sides = ['left', *['right'] * len(cells.columns)]
    text = cells.to_markdown(tablefmt='pipe', disable_numparse=True, colalign=sides)
    return f'IoU by class, {split}, points above {reference}:\n\n{text}'


def facts(
    args: argparse.Namespace, names: Sequence[str], records: Sequence[tables.Record]
) -> dict[str, str]:
    """What was run, where and with what, as far as the records say."""
    grids = [path for path in map(GRIDS.format, names) if (ROOT / path).is_file()]
    hours = sum(record.get('wall_seconds') or 0 for record in records) / 3600
    finished = sorted(record['finished'] for record in records if record.get('finished'))
    methods = {record['method'] for record in records}
    spent = f'; {hours:.1f} hours in all' if hours else ''
    settings = [record.get('setting') or {} for record in records]
    return {
        'runs made by': '; '.join(f'python tools/grid.py {path}' for path in grids),
        'runs': f'{len(records)} of {len(methods)} methods{spent}',
        'learning rates': ', '.join(f'{r:g}' for r in sorted({x['rate'] for x in records})),
        'seeds': ', '.join(map(str, sorted({record['seed'] for record in records}))),
        **{
            name: counted(setting.get(name) for setting in settings)
            for name in ('dataset', 'trunk', 'head', 'batch', 'steps', 'epochs')
        },
        'hardware': counted(map(hardware, records)),
        'versions': counted(map(versions, records)),
        'commit': counted(record.get('commit') for record in records),
        'times and memory': f'of benchmark.py, {args.cost}' if args.cost else 'of the runs',
        'finished': ' to '.join(dict.fromkeys([*finished[:1], *finished[-1:]])),
    }


def hardware(record: tables.Record) -> str:
    """Device, threads and processes of a run."""
    if not record.get('device'):
        return ''
    threads, processes = record.get('threads'), record.get('processes') or 1
    parts = [record['device']]
    parts += [f'{threads} thread{"s" if threads > 1 else ""}'] if threads else []
    parts += [f'{processes} processes'] if processes > 1 else []
    return ', '.join(parts)


def versions(record: tables.Record) -> str:
    """Packages of a run."""
    return ', '.join(f'{name} {text}' for name, text in (record.get('versions') or {}).items())


def counted(values: Iterable[Any]) -> str:
    """The value that all have, or each with how often; of those that lack it nothing is said."""
    counts = Counter(value for value in values if value)
    if len(counts) == 1:
        return str(next(iter(counts)))
    return '; '.join(f'{value} ({number} runs)' for value, number in counts.items())


def table_command(args: argparse.Namespace) -> str:
    """The command that writes the table of a report into its page."""
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
