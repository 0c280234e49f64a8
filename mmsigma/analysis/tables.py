"""Tables and plots of the records that grids leave behind."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown


@dataclass(frozen=True)
class Row:
    """A method of a table.

    Attributes:
        method: Its name.
        by_rate: Validation metric after the last step, by rate, mean over seeds.
        rate: The rate with the best of these.
        validation: Best validation metric at that rate, one per seed.
        test: Test metric of the last weights at that rate, one per seed.
        share: Trained parameters inside the backbone, in percent of the trunk.
        seconds: Of a training step.
        memory: Peak, in MiB; None where it is not known.
    """

    method: str
    by_rate: Mapping[float, float]
    rate: float
    validation: Sequence[float]
    test: Sequence[float]
    share: float
    seconds: float
    memory: float | None


def load(folders: Iterable[str | Path]) -> list[dict[str, Any]]:
    """All records in folders.

    Raises:
        InvalidSettingError: A folder without records, a file that is none, or two records of one
            run.
    """
    found: dict[str, dict[str, Any]] = {}
    for folder in folders:
        paths = sorted(Path(folder).glob('*_seed*.json'))
        if not paths:
            raise InvalidSettingError(
                f'{folder} holds no records (*_seed*.json). tools/grid.py writes them.'
            )
        for path in paths:
            try:
                record = json.loads(path.read_text())
                name = record['run']
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidSettingError(
                    f'{path} is no record of a run ({type(error).__name__}: {error}). Remove it, '
                    'and run tools/grid.py again.'
                ) from error
            if name in found:
                raise InvalidSettingError(f'{path}: there is a second record of run {name}.')
            found[name] = record
    return list(found.values())


def rows(
    records: Iterable[Mapping[str, Any]], metric: str, cost: Mapping[str, Any] | None = None
) -> list[Row]:
    """One row per method, the best on the test split first.

    The rate is chosen on the validation split, by the mean over seeds after the last step.

    Args:
        records: Of runs of one grid.
        metric: Its name in the records.
        cost: Per method ``seconds`` and ``peak_memory_mib`` of ``tools/bench.py``, to stand in for
            those of the runs themselves, which shared the machine with whatever else ran.

    Raises:
        UnknownNameError: The records have no such metric.
    """
    grouped: dict[str, dict[float, list[Mapping[str, Any]]]] = {}
    for record in records:
        if metric not in record['test']:
            raise UnknownNameError(unknown('metric', metric, sorted(record['test'])))
        grouped.setdefault(record['method'], {}).setdefault(record['rate'], []).append(record)
    table = []
    for method, rates in grouped.items():
        by_rate = {
            rate: statistics.mean(run['validation'][-1][metric] for run in rates[rate])
            for rate in sorted(rates)
        }
        rate = max(by_rate, key=lambda rate: by_rate[rate])
        chosen = sorted(rates[rate], key=lambda run: run['seed'])
        measured = (cost or {}).get(method) or {
            'seconds': statistics.median(run['seconds_per_step'] for run in chosen),
            'peak_memory_mib': max(run['peak_memory_mib'] or 0 for run in chosen) or None,
        }
        row = Row(
            method,
            by_rate,
            rate,
            [max(line[metric] for line in run['validation']) for run in chosen],
            [run['test'][metric] for run in chosen],
            chosen[0]['share_percent'],
            measured['seconds'],
            measured['peak_memory_mib'],
        )
        table.append(row)
    return sorted(table, key=lambda row: -statistics.mean(row.test))


def markdown(table: Sequence[Row], metric: str) -> str:
    """The rows as a Markdown table."""
    rates = sorted({rate for row in table for rate in row.by_rate})
    head = [
        'method',
        'trained, % of trunk',
        *(f'val {metric}, {rate:g}' for rate in rates),
        'rate',
        f'val {metric}, best',
        f'**test {metric}**',
        's / step',
        'peak MiB',
    ]
    lines = [_line(head), _line(['---', *['--:'] * (len(head) - 1)])]
    for row in table:
        per_rate = [f'{row.by_rate[rate]:.1f}' if rate in row.by_rate else '' for rate in rates]
        memory = '' if row.memory is None else f'{row.memory:,.0f}'
        cells = [
            row.method,
            f'{row.share:.2f}',
            *per_rate,
            f'{row.rate:g}',
            _spread(row.validation),
            f'**{_spread(row.test)}**',
            f'{row.seconds:.2f}',
            memory,
        ]
        lines.append(_line(cells))
    return '\n'.join(lines) + '\n'


def _line(cells: Iterable[str]) -> str:
    return f'| {" | ".join(cells)} |'


def _spread(values: Sequence[float]) -> str:
    """Mean, and the standard deviation where there are several seeds."""
    mean = f'{statistics.mean(values):.1f}'
    return f'{mean} ± {statistics.stdev(values):.1f}' if len(values) > 1 else mean


def plot(table: Sequence[Row], metric: str, path: str | Path) -> None:
    """Draw the test metric against the trained share, on a logarithmic axis, as a PNG."""
    from matplotlib.figure import Figure  # imported here: only pictures need it

    figure = Figure(figsize=(7.2, 4.4), dpi=120, layout='constrained')
    axes = figure.add_subplot()
    trained = [row for row in table if row.share]
    for row in trained:
        ours = row.method.startswith('sigma')
        axes.scatter(row.share, statistics.mean(row.test), s=55 if ours else 28,
                     color='#c0392b' if ours else '#34608f', zorder=3)  # fmt: skip
        axes.annotate(row.method, (row.share, statistics.mean(row.test)), fontsize=8,
                      xytext=(4, 4), textcoords='offset points')  # fmt: skip
    for row in table:
        if not row.share:  # no place on a logarithmic axis
            level = statistics.mean(row.test)
            axes.axhline(level, color='#888888', linestyle='--', linewidth=1)
            axes.annotate(row.method, (1, level), xycoords=('axes fraction', 'data'), fontsize=8,
                          xytext=(-4, 3), textcoords='offset points', ha='right')  # fmt: skip
    axes.set_xscale('log')
    axes.set_xlabel('trained parameters, % of the trunk')
    axes.set_ylabel(f'test {metric}')
    axes.grid(alpha=0.3)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
