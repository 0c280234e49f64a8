"""Tables as text: Markdown, LaTeX and CSV of one table."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from mmsigma.experiments.published import TAGS, Groups, find
from mmsigma.experiments.tables import METHOD, REFERENCE, Comparison

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass
class Table:
    """A table before it is text.

    Attributes:
        exact: A line for each method, in columns words and numbers for programs. What belongs to a
            column, such as its deviation, has a column ``<head>, std`` of its own behind it.
        patterns: By head of what people see, the format of its numbers, such as ``.1f``.
        bold: Heads of what the table is about.
        notes: What a reader must know, a sentence or two each.
    """

    exact: DataFrame
    patterns: dict[str, str] = field(default_factory=dict)
    bold: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, head: str, pattern: str, values: Any, **more: Any) -> None:
        """Add a column, unless it has no values.

        Args:
            head: Its name.
            pattern: See :attr:`patterns`.
            values: One per method; NaN or an empty word for an empty cell.
            **more: What belongs to it: ``std``, or ``low`` and ``high``, or ``tag`` and ``source``.
        """
        self.exact[head] = values
        if self.exact[head].isna().all():
            del self.exact[head]
            return
        self.patterns[head] = pattern
        for name, own in more.items():
            self.exact[f'{head}, {name}'] = own
        if 'std' in more and self.exact[f'{head}, std'].isna().all():
            del self.exact[f'{head}, std']

    def text(self) -> DataFrame:
        """Cells as people read them: ``mean ± std``, ``mean [low, high]``, ``figure [tag]``."""
        shown = self.exact[list(self.patterns)].astype(object)
        for head, pattern in self.patterns.items():
            shown[head] = ''
            for name, frame in _PARTS.items():
                if head + name in self.exact:
                    write = partial(_cell, pattern=pattern, frame=frame)
                    shown[head] += self.exact[head + name].map(write)
        return shown


# What a cell is put together from, by the end of the column's name.
_PARTS = {'': '{}', ', std': ' ± {}', ', low': ' [{}', ', high': ', {}]', ', tag': ' [{}]'}


def _cell(value: Any, pattern: str, frame: str) -> str:
    """A part of a cell; empty where there is none."""
    return frame.format(format(value, pattern)) if value == value and value != '' else ''


def table(comparison: Comparison, published: Groups = ()) -> Table:
    """The table of some methods.

    Args:
        comparison: Of :func:`mmsigma.experiments.tables.compare`.
        published: Figures of others; a column of them appears where there is one.
    """
    import pandas

    first, metrics = comparison.first_runs, comparison.metrics
    made = Table(pandas.DataFrame(index=first.index))
    methods, trunks = (first.index.get_level_values(name) for name in METHOD)
    fewer = comparison.fewer_rates()
    made.add('method', '', methods + [' *' if name in fewer else '' for name in first.index])
    if trunks.nunique() > 1:
        made.add('trunk', '', trunks)
    made.add('trained, % of trunk', '.2f', first.share)
    _add_choice(made, comparison)
    made.add('rate', 'g', first.rate)
    made.add('inner rate', 'g', first.inner.where(first.inner > 0))
    grouped = comparison.runs.groupby(METHOD, sort=False)
    if grouped.size().max() > 1:
        made.add('seeds', 'd', grouped.size())
    split = 'test' if comparison.tested else 'val'
    for metric in metrics:
        for kind, name in (('last', 'val {}, last'), ('best', 'val {}, best'), ('test', 'test {}')):
            head, found = name.format(metric.label), comparison.over_seeds(f'{kind} {metric.name}')
            made.add(head, f'.{metric.digits}f', found['mean'], std=found['std'])
            if kind == ('test' if comparison.tested else 'last') and head in made.patterns:
                made.bold.append(head)  # it compares the methods
    made.add(
        f'{split} {metrics[0].label} - {REFERENCE} [95 %]',
        f'+z.{metrics[0].digits}f',
        **comparison.differences(metrics[0]).rename(columns={'mean': 'values'}),
    )
    made.add('s / step', '.2f', grouped['seconds'].median())
    made.add('peak MiB', ',.0f', grouped['memory'].max())
    for metric in metrics:
        figures = [find(published, record, metric.name) for record in first.record]
        if any(figures):
            values, tags, sources = zip(
                *(figure or ('', '', '') for figure in figures), strict=True
            )
            made.add(f'published {metric.label}', '', values, tag=tags, source=sources)
            told = '; '.join(f'[{tag}] {text}' for tag, text in TAGS.items() if tag in tags)
            made.notes += [f'Published: {told}.', *filter(None, sources)]
    if any(r.get('held_out') is False and r.get('test') for r in comparison.runs.record):
        made.notes.append('Test scores are of the validation images: there are no others.')
    if fewer:
        names = [f'{", ".join(filter(None, name))} at {text}' for name, text in fewer.items()]
        made.notes.append(f'Compared at fewer rates than others (*): {", ".join(names)}.')
    made.notes = list(dict.fromkeys(made.notes))
    return made


def _add_choice(made: Table, comparison: Comparison) -> None:
    """What the rates had in the last validation, where there is a choice.

    With rates inside the trunk, there is a column for each of these, at the best of the head's.
    """
    metric, by_rate = comparison.metrics[0], comparison.by_rate
    axis, word = ('inner', 'inner ') if by_rate.inner.any() else ('rate', '')
    best = 'min' if metric.lower else 'max'
    known = by_rate[by_rate[axis] > 0].groupby([*METHOD, axis])['value'].agg(best).unstack(axis)
    for rate in known if known.shape[1] > 1 else ():
        made.add(f'val {metric.label}, {word}{rate:g}', f'.{metric.digits}f', known[rate])


def markdown(made: Table) -> str:
    """A Markdown table, and its notes below."""
    shown = made.text()
    shown[made.bold] = shown[made.bold].map(lambda text: f'**{text}**' if text else '')
    shown = shown.rename(columns={head: f'**{head}**' for head in made.bold})
    sides = ['left' if head in METHOD else 'right' for head in shown]
    text = shown.to_markdown(index=False, tablefmt='pipe', disable_numparse=True, colalign=sides)
    return '\n'.join([text, *(f'\n{note}' for note in made.notes)]) + '\n'


def latex(made: Table) -> str:
    """A LaTeX ``tabular`` in the style of the package booktabs, and its notes below."""
    shown = made.text().reset_index(drop=True)
    sides = ''.join('l' if head in METHOD else 'r' for head in shown)
    style = shown.style.hide(axis='index').format(escape='latex')
    style = style.format_index(escape='latex', axis='columns')
    style = style.set_properties(subset=made.bold, textbf='--rwrap')
    style = style.map_index(lambda x: 'textbf: --rwrap' if x in made.bold else '', axis='columns')
    text = style.to_latex(hrules=True, column_format=sides).replace('±', r'$\pm$').strip()
    notes = [re.sub(r'([&%$#_{}])', r'\\\1', f'\n{note}') for note in made.notes]
    return '\n'.join(['% \\usepackage{booktabs}', text, *notes]) + '\n'


def as_csv(made: Table) -> str:
    """Comma-separated values, more digits than a reader needs, without notes."""
    return made.exact.to_csv(index=False, float_format='%.6g')


FORMATS: dict[str, Callable[[Table], str]] = {'md': markdown, 'latex': latex, 'csv': as_csv}
