"""Tables as text: one sheet of cells, written as Markdown, LaTeX, CSV or HTML."""

import csv
import html
import io
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mmsigma.errors import UnknownNameError, unknown
from mmsigma.experiments.metrics import Metric, named
from mmsigma.experiments.published import TAGS, Figure, Published
from mmsigma.experiments.tables import REFERENCE, Row, fewer_rates, interval, paired


@dataclass(frozen=True)
class Number:
    """Values of a cell, of which the mean is shown, and the spread where there are several.

    Attributes:
        values: One per seed; none for an empty cell.
        pattern: How the mean is written, a format specification such as ``.1f``.
    """

    values: Sequence[float]
    pattern: str

    @property
    def mean(self) -> str:
        """The mean, or nothing."""
        return format(statistics.mean(self.values), self.pattern) if self.values else ''

    @property
    def spread(self) -> str:
        """The standard deviation (of a sample) of several values, or nothing."""
        return format(statistics.stdev(self.values), self.pattern) if len(self.values) > 1 else ''


@dataclass(frozen=True)
class Difference:
    """A mean difference, with its 95 % interval.

    Attributes:
        values: One per pair; an empty cell where there are less than two.
        digits: Behind the point.
    """

    values: Sequence[float]
    digits: int

    @property
    def figures(self) -> tuple[float, float, float] | None:
        """Mean, and both ends of the interval."""
        if len(self.values) < 2:
            return None
        return statistics.mean(self.values), *interval(self.values)

    @property
    def text(self) -> str:
        """``+0.5 [-0.1, +1.1]``, or nothing."""
        if self.figures is None:
            return ''
        mean, low, high = (f'{value:+z.{self.digits}f}' for value in self.figures)
        return f'{mean} [{low}, {high}]'


Cell = str | Number | Difference | Figure


@dataclass(frozen=True)
class Column:
    """A column of a sheet.

    Attributes:
        name: Its head.
        cells: One per row.
        bold: Whether it is what the table is about.
    """

    name: str
    cells: Sequence[Cell]
    bold: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table before it is text.

    Attributes:
        columns: Its columns, all of one length.
        notes: What a reader must know, a sentence or two each.
    """

    columns: Sequence[Column]
    notes: Sequence[str] = ()


def sheet(rows: Sequence[Row], names: Sequence[str], published: Published | None = None) -> Sheet:
    """The table of some rows.

    Args:
        rows: Of :func:`mmsigma.experiments.tables.rows`.
        names: The metrics that the rows were made with.
        published: Figures of others; a column of them appears where there is one.
    """
    first = named(names[0])
    fewer = fewer_rates(rows)
    names_shown = [f'{row.method} *' if row.name in fewer else row.method for row in rows]
    columns = [Column('method', names_shown)]
    if len({row.trunk for row in rows}) > 1:
        columns.append(Column('trunk', [row.trunk for row in rows]))
    columns.append(_numbers('trained, % of trunk', '.2f', rows, lambda row: [row.share]))
    columns += _choice(rows, first)
    columns.append(_numbers('rate', 'g', rows, lambda row: [row.rates.head]))
    if any(row.rates.inner is not None for row in rows):
        columns.append(_numbers('inner rate', 'g', rows, lambda row: _given(row.rates.inner)))
    if any(len(row.runs) > 1 for row in rows):
        columns.append(_numbers('seeds', 'd', rows, lambda row: [len(row.runs)]))
    notes: list[str] = []
    tested = any(row.scores[name].test for row in rows for name in names)
    for name in names:
        columns += _scores(rows, name, tested)
    columns += _differences(rows, first, tested)
    columns.append(_numbers('s / step', '.2f', rows, lambda row: _given(row.seconds)))
    columns.append(_numbers('peak MiB', ',.0f', rows, lambda row: _given(row.memory)))
    for name in names if published else ():
        figures = [published.find(row.runs[0], name) for row in rows] if published else []
        if any(figures):
            columns.append(_published(named(name).label, figures))
            notes += _sources(figures)
    if any(run.get('held_out') is False and run.get('test') for r in rows for run in r.runs):
        notes.append('Test scores are of the validation images: there are no others.')
    if fewer:
        notes.append(f'Compared at fewer rates than others (*): {", ".join(fewer.values())}.')
    return Sheet(columns, list(dict.fromkeys(notes)))


def _numbers(
    name: str, pattern: str, rows: Sequence[Row], of: Callable[[Row], Sequence[float]]
) -> Column:
    return Column(name, [Number(of(row), pattern) for row in rows])


def _given(value: float | None) -> list[float]:
    return [] if value is None else [value]


def _choice(rows: Sequence[Row], metric: Metric) -> list[Column]:
    """What the rates had in the last validation, where there is a choice.

    With rates inside the trunk, there is a column for each of these, at the best of the head's.
    """
    inside = any(row.rates.inner is not None for row in rows)
    word = 'inner ' if inside else ''
    found: list[dict[float, float]] = []
    for row in rows:
        best: dict[float, float] = {}
        for rates, value in row.by_rate.items():
            rate = rates.inner if inside else rates.head
            if rate is not None:
                best[rate] = metric.best([value, best.get(rate, value)])
        found.append(best)
    known = sorted({rate for best in found for rate in best})
    return [
        Column(
            f'val {metric.label}, {word}{rate:g}',
            [Number(_given(best.get(rate)), f'.{metric.digits}f') for best in found],
        )
        for rate in known
        if len(known) > 1
    ]


def _differences(rows: Sequence[Row], metric: Metric, tested: bool) -> list[Column]:
    """What each method has more than the reference, where both have several seeds."""
    references = {row.trunk: row for row in rows if row.method == REFERENCE}
    cells = [
        Difference(
            paired(row, references[row.trunk], metric.name)
            if row.method != REFERENCE and row.trunk in references
            else [],
            metric.digits,
        )
        for row in rows
    ]
    title = f'{"test" if tested else "val"} {metric.label} - {REFERENCE} [95 %]'
    return [Column(title, cells)] if any(cell.text for cell in cells) else []


def _scores(rows: Sequence[Row], name: str, tested: bool) -> list[Column]:
    """Last and best validation and the test of a metric, as far as there are any.

    Of the last two to three, the one that compares the methods is bold: the test, or without one
    the validation after the last step.
    """
    metric = named(name)
    kinds = (('last', f'val {metric.label}, last'), ('best', f'val {metric.label}, best'))
    columns = []
    for kind, title in (*kinds, ('test', f'test {metric.label}')):
        values = [getattr(row.scores[name], kind) for row in rows]
        if any(values):
            bold = kind == ('test' if tested else 'last')
            cells = [Number(value, f'.{metric.digits}f') for value in values]
            columns.append(Column(title, cells, bold))
    return columns


def _published(label: str, figures: Sequence[Figure | None]) -> Column:
    return Column(f'published {label}', [figure or '' for figure in figures])


def _sources(figures: Iterable[Figure | None]) -> list[str]:
    found = [figure for figure in figures if figure]
    tags = [f'[{tag}] {TAGS[tag]}' for tag in TAGS if tag in {figure.tag for figure in found}]
    return [f'Published: {"; ".join(tags)}.', *(figure.source for figure in found)]


def markdown(table: Sheet) -> str:
    """A Markdown table, and its notes below."""

    def line(cells: Iterable[str]) -> str:
        return f'| {" | ".join(cells)} |'

    def bold(text: str, column: Column) -> str:
        return f'**{text}**' if column.bold and text else text

    columns = table.columns
    lines = [
        line(bold(column.name, column) for column in columns),
        line('---' if _is_text(column) else '--:' for column in columns),
    ]
    for row in zip(*(column.cells for column in columns), strict=True):
        lines.append(line(bold(_plain(c), column) for c, column in zip(row, columns, strict=True)))
    notes = [f'\n{note}' for note in table.notes]
    return '\n'.join([*lines, *notes]) + '\n'


def _is_text(column: Column) -> bool:
    return all(isinstance(cell, str) for cell in column.cells)


def _plain(cell: Cell) -> str:
    if isinstance(cell, Figure):
        return f'{cell.value} [{cell.tag}]'
    if isinstance(cell, Number):
        return f'{cell.mean} ± {cell.spread}' if cell.spread else cell.mean
    return cell.text if isinstance(cell, Difference) else cell


_LATEX = {
    '\\': r'\textbackslash{}', '&': r'\&', '%': r'\%', '$': r'\$', '#': r'\#', '_': r'\_',
    '{': r'\{', '}': r'\}', '~': r'\textasciitilde{}', '^': r'\textasciicircum{}', '±': r'$\pm$',
}  # fmt: skip


def _escape_latex(text: str) -> str:
    return ''.join(_LATEX.get(letter, letter) for letter in text)


def latex(table: Sheet) -> str:
    """A LaTeX ``tabular`` in the style of the package booktabs, and its notes below."""

    def line(cells: Iterable[str]) -> str:
        return f'{" & ".join(cells)} \\\\'

    def bold(text: str, column: Column) -> str:
        text = _escape_latex(text)
        return rf'\textbf{{{text}}}' if column.bold and text else text

    columns = table.columns
    lines = [
        '% \\usepackage{booktabs}',
        rf'\begin{{tabular}}{{{"".join("l" if _is_text(c) else "r" for c in columns)}}}',
        r'\toprule',
        line(bold(column.name, column) for column in columns),
        r'\midrule',
    ]
    for row in zip(*(column.cells for column in columns), strict=True):
        lines.append(line(bold(_plain(c), column) for c, column in zip(row, columns, strict=True)))
    notes = [f'\n{_escape_latex(note)}' for note in table.notes]
    return '\n'.join([*lines, r'\bottomrule', r'\end{tabular}', *notes]) + '\n'


def as_csv(table: Sheet) -> str:
    """Comma-separated values: a field for the mean and one for the spread, without notes."""
    heads: list[str] = []
    fields: list[list[str]] = []
    for column in table.columns:
        heads.append(column.name)
        fields.append([_exact(cell) for cell in column.cells])
        if any(isinstance(cell, Number) and cell.spread for cell in column.cells):
            heads.append(f'{column.name}, std')
            fields.append([_exact_spread(cell) for cell in column.cells])
        elif any(isinstance(cell, Difference) for cell in column.cells):
            ends = [cell.figures if isinstance(cell, Difference) else None for cell in column.cells]
            for place, name in ((1, 'low'), (2, 'high')):
                heads.append(f'{column.name}, {name}')
                fields.append([_digits(end[place]) if end else '' for end in ends])
        elif any(isinstance(cell, Figure) for cell in column.cells):
            heads += [f'{column.name}, tag', f'{column.name}, source']
            found = [cell if isinstance(cell, Figure) else None for cell in column.cells]
            fields.append([figure.tag if figure else '' for figure in found])
            fields.append([figure.source if figure else '' for figure in found])
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows([heads, *zip(*fields, strict=True)])
    return text.getvalue()


def _exact_spread(cell: Cell) -> str:
    if isinstance(cell, Number) and len(cell.values) > 1:
        return _digits(statistics.stdev(cell.values))
    return ''


def _exact(cell: Cell) -> str:
    if isinstance(cell, Number):
        return _digits(statistics.mean(cell.values)) if cell.values else ''
    if isinstance(cell, Difference):
        return _digits(cell.figures[0]) if cell.figures else ''
    return cell.value if isinstance(cell, Figure) else cell


def _digits(value: float) -> str:
    """More digits than a reader needs, so that nothing is lost, without those of rounding."""
    return f'{value:.6g}' if isinstance(value, float) else str(value)


def as_html(table: Sheet) -> str:
    """An HTML ``table`` with classes ``number`` and ``main``, and its notes below."""

    def line(kind: str, cells: Iterable[tuple[str, Column]]) -> str:
        return f'<tr>{"".join(_html_cell(kind, text, column) for text, column in cells)}</tr>'

    columns = table.columns
    head = line('th', ((column.name, column) for column in columns))
    body = [
        line('td', ((_plain(c), column) for c, column in zip(row, columns, strict=True)))
        for row in zip(*(column.cells for column in columns), strict=True)
    ]
    rows = '\n'.join(body)
    notes = ''.join(f'<p class="note">{html.escape(note)}</p>\n' for note in table.notes)
    return f'<table>\n<thead>{head}</thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n{notes}'


def _html_cell(kind: str, text: str, column: Column) -> str:
    classes = ['number'] if not _is_text(column) else []
    classes += ['main'] if column.bold else []
    marked = f' class="{" ".join(classes)}"' if classes else ''
    return f'<{kind}{marked}>{html.escape(text)}</{kind}>'


FORMATS: dict[str, Callable[[Sheet], str]] = {
    'md': markdown,
    'latex': latex,
    'csv': as_csv,
    'html': as_html,
}


def write(table: Sheet, style: str = 'md') -> str:
    """The table as text, with a newline at its end.

    Raises:
        UnknownNameError: There is no such format.
    """
    if style not in FORMATS:
        raise UnknownNameError(unknown('format', style, FORMATS))
    return FORMATS[style](table)


def slug(text: str) -> str:
    """A name for files and anchors."""
    return re.sub(r'[^a-z0-9]+', '-', text.lower()).strip('-')
