"""The report of a grid: facts, table, plots and predictions, as one HTML file or a Markdown page.

The HTML file holds its pictures and needs nothing else, no network either.
"""

import base64
import html
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from mmsigma.checkpoint.atomic_write import write
from mmsigma.experiments import formats, plots
from mmsigma.experiments.metrics import named
from mmsigma.experiments.pages import END
from mmsigma.experiments.samples import Tiles
from mmsigma.experiments.tables import Record, Row

RATES = (
    "A method's learning rate is the one with the best validation after the last step; the test "
    'split chooses nothing, and sees the last weights. Behind ± is the standard deviation over '
    'seeds, where there are several.'
)


@dataclass(frozen=True)
class Plot:
    """A plot of a report.

    Attributes:
        name: For files.
        caption: What it shows.
        png: The picture.
    """

    name: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class Report:
    """What a report says.

    Attributes:
        title: Its heading.
        command: What made it.
        records: All records of the grid.
        rows: Of the table.
        metrics: Of the table; the first compares the methods.
        sheet: The table.
        plots: As far as the records hold what they show.
        samples: Of :func:`mmsigma.experiments.samples.side_by_side`.
        cost: File of the times and memory in the table; None where they are of the runs.
        notes: What a reader should know besides.
        grids: Files of the grids that made the records, where they are at hand.
    """

    title: str
    command: str
    records: Sequence[Record]
    rows: Sequence[Row]
    metrics: Sequence[str]
    sheet: formats.Sheet
    plots: Sequence[Plot] = ()
    samples: Sequence[tuple[str, Tiles]] = ()
    cost: str | None = None
    notes: Sequence[str] = ()
    grids: Sequence[str] = ()


def draw(rows: Sequence[Row], metrics: Sequence[str], reference: str | None) -> list[Plot]:
    """The plots of some rows.

    Args:
        rows: Of a table.
        metrics: Of the table; the first is drawn.
        reference: The method that classes are compared with, or None for no such plot.

    Raises:
        UnknownNameError: There is no method ``reference``.
    """
    label = named(metrics[0]).label
    figures = [
        ('share', f'{label} against trained parameters', plots.against_share(rows, metrics[0])),
        ('time', f'{label} against the time of a training step',
         plots.against_time(rows, metrics[0])),
        ('curves', f'Validation {label} during training', plots.curves(rows, metrics[0])),
    ]  # fmt: skip
    if reference:
        caption = f'IoU by class, compared with {reference}'
        figures.append(('classes', caption, plots.by_class(rows, reference)))
    return [Plot(name, text, plots.png(fig)) for name, text, fig in figures if fig is not None]


def facts(report: Report) -> list[tuple[str, str]]:
    """What was run, where and with what, as far as the records say; a name and a text each."""
    records = report.records
    hours = sum(record.get('wall_seconds') or 0 for record in records) / 3600
    finished = sorted(record['finished'] for record in records if record.get('finished'))
    spent = f'; {hours:.1f} hours in all' if hours else ''
    methods = dict.fromkeys(record['method'] for record in records)
    settings = [record.get('setting') or {} for record in records]
    found = [
        ('command', report.command),
        ('runs made by', '; '.join(f'python tools/grid.py {path}' for path in report.grids)),
        ('runs', f'{len(records)} of {len(methods)} methods{spent}'),
        ('learning rates', ', '.join(f'{r:g}' for r in sorted({x['rate'] for x in records}))),
        ('seeds', ', '.join(map(str, sorted({record['seed'] for record in records})))),
    ]
    for name in ('dataset', 'trunk', 'head', 'batch', 'steps', 'epochs'):
        found.append((name, _counted(setting.get(name) for setting in settings)))
    found += [
        ('hardware', _counted(_hardware(record) for record in records)),
        ('versions', _counted(_versions(record) for record in records)),
        ('commit', _counted(record.get('commit') for record in records)),
        ('times and memory', f'of benchmark.py, {report.cost}' if report.cost else 'of the runs'),
        ('finished', ' to '.join(dict.fromkeys([finished[0], finished[-1]])) if finished else ''),
    ]
    return [(name, text) for name, text in found if text]


def _hardware(record: Record) -> str | None:
    if not record.get('device'):
        return None
    threads, processes = record.get('threads'), record.get('processes') or 1
    parts = [record['device']]
    parts += [f'{threads} thread{"s" if threads > 1 else ""}'] if threads else []
    parts += [f'{processes} processes'] if processes > 1 else []
    return ', '.join(parts)


def _versions(record: Record) -> str:
    return ', '.join(f'{name} {text}' for name, text in (record.get('versions') or {}).items())


def _counted(values: Iterable[Any]) -> str:
    """The value that all have, or each with how often; of those that lack it nothing is said."""
    counts = Counter(value for value in values if value)
    if len(counts) == 1:
        return str(next(iter(counts)))
    return '; '.join(f'{value} ({number} runs)' for value, number in counts.items())


# --- Markdown -----------------------------------------------------------------------------


def write_markdown(report: Report, path: str | Path, table_command: str) -> None:
    """Write a page with the table in a place of its own, and its plots in ``figures/`` beside it.

    Args:
        report: What to write.
        path: Of the page.
        table_command: The command that writes the table alone into this page.
    """
    path = Path(path)
    table = formats.markdown(report.sheet).strip()
    parts = [
        f'# {report.title}',
        f'Written by `{report.command}`.',
        '\n'.join(f'- {name}: {text}' for name, text in facts(report) if name != 'command'),
        *report.notes,
        RATES,
        f'<!-- table: {table_command} -->\n\n{table}\n\n{END}',
    ]
    for plot in report.plots:
        write(path.parent / 'figures' / f'{plot.name}.png', plot.png)
        parts.append(f'![{plot.caption}](figures/{plot.name}.png)')
    write(path, ('\n\n'.join(parts) + '\n').encode())


# --- HTML ---------------------------------------------------------------------------------

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1180px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.4rem; }
code, dd { overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; }
dt { color: #666; } dd { margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: left; }
th { vertical-align: bottom; border-bottom: 2px solid #888; }
.number { text-align: right; } td { white-space: nowrap; } .main { font-weight: 600; }
tbody tr:hover { background: #f4f6f8; }
.note { color: #555; font-size: 13px; }
figure { margin: 1.2rem 0; } figure img { max-width: 100%; height: auto; }
figcaption { color: #555; font-size: 13px; }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem; } .tiles figure { margin: 0; }
.tiles img { width: 260px; }
""".strip()


def as_html(report: Report) -> str:
    """The report as one HTML document."""
    items = ''.join(f'<dt>{_text(n)}</dt><dd>{_text(t)}</dd>\n' for n, t in facts(report))
    notes = ''.join(f'\n<p>{_text(note)}</p>' for note in report.notes)
    parts = [
        f'<h1>{_text(report.title)}</h1>\n<dl>\n{items}</dl>{notes}',
        f'<h2>Table</h2>\n<p>{_text(RATES)}</p>\n{_wide(formats.as_html(report.sheet))}',
    ]
    if report.plots:
        figures = [_image(plot.png, 'png', plot.caption) for plot in report.plots]
        parts.append('<h2>Plots</h2>\n' + '\n'.join(figures))
    parts.append(f'<h2>Predictions</h2>\n{_predictions(report.samples)}')
    runs = _wide(formats.as_html(run_sheet(report.records, report.metrics)))
    parts.append(
        '<h2>Runs</h2>\n<details>'
        f'<summary>All {len(report.records)} runs</summary>\n{runs}</details>'
    )
    # `<` would let a text close the script.
    data = json.dumps(summary(report), sort_keys=True).replace('<', '\\u003c')
    parts.append(f'<script type="application/json" id="data">{data}</script>')
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f'<title>{_text(report.title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n'
    )
    return head + '\n'.join(parts) + '\n</body>\n</html>\n'


def _text(text: str) -> str:
    return html.escape(text)


def _wide(table: str) -> str:
    return f'<div class="wide">\n{table}</div>\n'


def _image(data: bytes, kind: str, caption: str) -> str:
    source = f'data:image/{kind};base64,{base64.b64encode(data).decode()}'
    text = _text(caption)
    return f'<figure><img src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def _predictions(samples: Sequence[tuple[str, Tiles]]) -> str:
    if not samples:
        return (
            '<p>None: the folders of these runs are not here, or hold no drawn predictions of the '
            'same images. Runs draw them with default_hooks.visualization.draw=True.</p>'
        )
    parts = [
        '<p>Of the last validation; each method at the rate of the table, with its first seed.</p>'
    ]
    for title, tiles in samples:
        images = []
        for name, tile in tiles:
            coded = cv2.imencode('.jpg', tile, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
            images.append(_image(coded.tobytes(), 'jpeg', name))
        parts.append(
            f'<h3>{_text(title)}</h3>\n<div class="tiles">\n' + '\n'.join(images) + '</div>'
        )
    return '\n'.join(parts)


def run_sheet(records: Sequence[Record], metrics: Sequence[str]) -> formats.Sheet:
    """A table of all runs, with each metric after the last step and of the test."""
    found = sorted(records, key=lambda record: (record['method'], record['rate'], record['seed']))
    columns = [
        formats.Column('run', [record['run'] for record in found]),
        formats.Column('rate', [formats.Number([r['rate']], 'g') for r in found]),
        formats.Column('seed', [formats.Number([r['seed']], 'd') for r in found]),
    ]
    for name in metrics:
        metric = named(name)
        for split, lines in (
            ('val', [record['validation'][-1] if record['validation'] else {} for record in found]),
            ('test', [record.get('test') or {} for record in found]),
        ):
            values = [line.get(name) for line in lines]
            if any(value is not None for value in values):
                cells = [
                    formats.Number([] if v is None else [v * metric.scale], f'.{metric.digits}f')
                    for v in values
                ]
                columns.append(formats.Column(f'{split} {metric.label}', cells))
    for name, key, pattern in (
        ('s / step', 'seconds_per_step', '.3f'),
        ('peak MiB', 'peak_memory_mib', ',.0f'),
        ('wall s', 'wall_seconds', ',.0f'),
    ):
        cells = [formats.Number([r[key]] if r.get(key) else [], pattern) for r in found]
        columns.append(formats.Column(name, cells))
    columns.append(formats.Column('commit', [record.get('commit') or '' for record in found]))
    columns.append(formats.Column('config', [record.get('config') or '' for record in found]))
    return formats.Sheet(columns)


def summary(report: Report) -> dict[str, Any]:
    """The report's figures as plain JSON values: ``facts``, ``metrics``, ``rows``, ``records``."""
    rows = [
        {
            'method': row.method,
            'trunk': row.trunk or None,
            'rate': row.rates.head,
            'inner_rate': row.rates.inner,
            'by_rate': {str(rates): value for rates, value in row.by_rate.items()},
            'scores': {name: vars(score) for name, score in row.scores.items()},
            'share_percent': row.share,
            'seconds_per_step': row.seconds,
            'peak_memory_mib': row.memory,
            'runs': [run['run'] for run in row.runs],
        }
        for row in report.rows
    ]
    found = {
        'facts': dict(facts(report)),
        'metrics': list(report.metrics),
        'rows': rows,
        'records': list(report.records),
    }
    return _finite(found)


def _finite(value: Any) -> Any:
    """The value with None for what JSON cannot say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(entry) for name, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, list | tuple) else value
