"""The rows of a table: what the records of a grid say about each method.

A method's learning rate is the one with the best validation after the last step. The test split
never chooses anything.
"""

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmsigma.analysis.metrics import Metric, named
from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Score:
    """A metric of a method at its rate, one value per seed; empty where a run lacks it.

    Attributes:
        last: On the validation split, after the last step.
        best: On the validation split, after the step with the best first metric of the table.
        test: On the test split, with the last weights.
    """

    last: Sequence[float]
    best: Sequence[float]
    test: Sequence[float]

    @property
    def final(self) -> Sequence[float]:
        """What compares methods: of the test, or where there is none of the last validation."""
        return self.test or self.last


@dataclass(frozen=True)
class Row:
    """A method of a table.

    Attributes:
        method: Its name.
        trunk: Name of the trunk; empty where the records do not say.
        by_rate: What chose the rate: the first metric after the last step, mean over the seeds
            that all rates have.
        rate: The best of these.
        scores: By name of the metric.
        share: Trained parameters inside the backbone, in percent of the trunk.
        seconds: Of a training step; None where it is not known.
        memory: Peak, in MiB; None where it is not known.
        runs: The records at that rate, by seed.
    """

    method: str
    trunk: str
    by_rate: Mapping[float, float]
    rate: float
    scores: Mapping[str, Score]
    share: float
    seconds: float | None
    memory: float | None
    runs: Sequence[Record]

    @property
    def name(self) -> str:
        """Method, and trunk where it is known."""
        return f'{self.method}, {self.trunk}' if self.trunk else self.method


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


def measured(records: Iterable[Record]) -> dict[str, None]:
    """Names of all metrics that some record has, those of validations first."""
    names: dict[str, None] = {}
    for record in records:
        for line in record['validation']:
            names |= dict.fromkeys(name for name in line if name != 'step')
    for record in records:
        names |= dict.fromkeys(record.get('test') or {})
    return names


def default_metric(records: Iterable[Record]) -> str:
    """What the grid of these records compares; ``mIoU`` where they do not say."""
    return next((r['metric'] for r in records if r.get('metric')), 'mIoU')


def rows(
    records: Sequence[Record], names: Sequence[str], cost: Mapping[str, Any] | None = None
) -> list[Row]:
    """One row per method and trunk, the best in the first metric first.

    Args:
        records: Of runs of one grid.
        names: Metrics in the records; the first chooses the rates.
        cost: Per method ``seconds`` and ``peak_memory_mib`` of ``benchmark.py``, to stand in for
            those of the runs themselves, which shared the machine with whatever else ran.

    Raises:
        UnknownNameError: No record has such a metric.
        InvalidSettingError: A seed was run twice, or a method has several rates and no validation
            to choose by.
    """
    known = measured(records)
    for name in names:
        if name not in known:
            raise UnknownNameError(unknown('metric', name, known))
    metrics = [named(name) for name in names]
    grouped: dict[tuple[str, str], dict[float, list[Record]]] = {}
    for record in records:
        key = (record['method'], _trunk(record))
        grouped.setdefault(key, {}).setdefault(record['rate'], []).append(record)
    table = [
        _row(method, trunk, rates, metrics, (cost or {}).get(method) or {})
        for (method, trunk), rates in grouped.items()
    ]
    return sorted(table, key=lambda row: _order(row, metrics[0]))


def _trunk(record: Record) -> str:
    return record.get('trunk') or (record.get('setting') or {}).get('trunk') or ''


def _order(row: Row, metric: Metric) -> float:
    final = row.scores[metric.name].final
    if not final:
        return math.inf
    mean = statistics.mean(final)
    return math.inf if math.isnan(mean) else mean if metric.lower else -mean


def _row(
    method: str,
    trunk: str,
    rates: Mapping[float, Sequence[Record]],
    metrics: Sequence[Metric],
    cost: Mapping[str, Any],
) -> Row:
    for rate, runs in rates.items():
        seeds = [run['seed'] for run in runs]
        if len(set(seeds)) < len(seeds):
            raise InvalidSettingError(
                f'{method} has two records of one seed at rate {rate:g}: '
                f'{", ".join(sorted(run["run"] for run in runs))}. A table is of one grid.'
            )
    by_rate = _by_rate(method, rates, metrics[0])
    usable = {rate: value for rate, value in by_rate.items() if not math.isnan(value)} or by_rate
    wanted = metrics[0].best(usable.values()) if usable else None
    rate = next((r for r, value in usable.items() if value == wanted), min(rates))
    chosen = sorted(rates[rate], key=lambda run: run['seed'])
    seconds = [run['seconds_per_step'] for run in chosen if run.get('seconds_per_step')]
    memory = [run['peak_memory_mib'] for run in chosen if run.get('peak_memory_mib')]
    return Row(
        method,
        trunk,
        by_rate,
        rate,
        {metric.name: _score(chosen, metric, metrics[0]) for metric in metrics},
        chosen[0]['share_percent'],
        cost.get('seconds', statistics.median(seconds) if seconds else None),
        cost.get('peak_memory_mib', max(memory, default=None)),
        chosen,
    )


def _by_rate(
    method: str, rates: Mapping[float, Sequence[Record]], metric: Metric
) -> dict[float, float]:
    """Mean last validation by rate, over the seeds that every rate has, if there are any.

    With more seeds at one rate than at another, the means would differ by the seeds too.
    """
    common = set.intersection(*({run['seed'] for run in runs} for runs in rates.values()))
    found = {}
    for rate in sorted(rates):
        runs = [run for run in rates[rate] if run['seed'] in common] or rates[rate]
        values = _values(runs, metric, _last)
        if values:
            found[rate] = statistics.mean(values)
    if len(rates) > 1 and len(found) < len(rates):
        lacking = ', '.join(f'{rate:g}' for rate in rates if rate not in found)
        raise InvalidSettingError(
            f'{method} has several rates, and no {metric.name} of a validation to choose by at '
            f'rate {lacking}. Name first a --metric that every validation has.'
        )
    return found


def _read(line: Mapping[str, Any], name: str) -> float | None:
    """A recorded value: None where there is none, NaN where it was not finite."""
    value = line.get(name)
    return math.nan if value is None and name in line else value


def _last(run: Record, name: str) -> float | None:
    return _read(run['validation'][-1], name) if run['validation'] else None


def _test(run: Record, name: str) -> float | None:
    return _read(run.get('test') or {}, name)


def _values(
    runs: Sequence[Record], metric: Metric, of: Callable[[Record, str], float | None]
) -> list[float]:
    """A shown value per run; none at all where a run has none."""
    values = [of(run, metric.name) for run in runs]
    found = [value * metric.scale for value in values if value is not None]
    return found if len(found) == len(values) else []


def _score(runs: Sequence[Record], metric: Metric, first: Metric) -> Score:
    def best(run: Record, name: str) -> float | None:
        line = first.best_line(run['validation'])
        return None if line is None else _read(line, name)

    return Score(*(_values(runs, metric, of) for of in (_last, best, _test)))
