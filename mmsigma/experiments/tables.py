"""The rows of a table: what the records of a grid say about each method.

A method's learning rates, the head's and the one inside the trunk, are those with the best
validation after the last step. The test split never chooses anything.
"""

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown
from mmsigma.experiments import protocol
from mmsigma.experiments.metrics import Metric, named

Record = Mapping[str, Any]
# What others are compared with, seed by seed.
REFERENCE = 'sigma'


class Rates(NamedTuple):
    """Learning rates of a run.

    Attributes:
        head: Of the optimiser.
        inner: Of what trains in the backbone; None where the grid does not say.
    """

    head: float
    inner: float | None = None

    def __str__(self) -> str:
        return f'{self.head:g}' if self.inner is None else f'{self.head:g} / {self.inner:g}'


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
        by_rate: What chose the rates: the first metric after the last step, mean over the seeds
            that all rates have.
        rates: The best of these.
        scores: By name of the metric.
        share: Trained parameters inside the backbone, in percent of the trunk.
        seconds: Of a training step; None where it is not known.
        memory: Peak, in MiB; None where it is not known.
        runs: The records at these rates, by seed.
    """

    method: str
    trunk: str
    by_rate: Mapping[Rates, float]
    rates: Rates
    scores: Mapping[str, Score]
    share: float
    seconds: float | None
    memory: float | None
    runs: Sequence[Record]

    @property
    def name(self) -> str:
        """Method, and trunk where it is known."""
        return f'{self.method}, {self.trunk}' if self.trunk else self.method

    def by_seed(self, name: str) -> dict[int, float]:
        """What compares methods in a metric, by seed."""
        final = self.scores[name].final
        return {run['seed']: value for run, value in zip(self.runs, final, strict=False)}


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
        InvalidSettingError: A seed was run twice, a method has several rates and no validation to
            choose by, or the records are of different protocols.
    """
    protocol.check(records)
    known = measured(records)
    for name in names:
        if name not in known:
            raise UnknownNameError(unknown('metric', name, known))
    metrics = [named(name) for name in names]
    grouped: dict[tuple[str, str], dict[Rates, list[Record]]] = {}
    for record in records:
        key = (record['method'], _trunk(record))
        rates = Rates(record['rate'], record.get('inner_rate'))
        grouped.setdefault(key, {}).setdefault(rates, []).append(record)
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
    rates: Mapping[Rates, Sequence[Record]],
    metrics: Sequence[Metric],
    cost: Mapping[str, Any],
) -> Row:
    for rate, runs in rates.items():
        seeds = [run['seed'] for run in runs]
        if len(set(seeds)) < len(seeds):
            raise InvalidSettingError(
                f'{method} has two records of one seed at rate {rate}: '
                f'{", ".join(sorted(run["run"] for run in runs))}. A table is of one grid.'
            )
    by_rate = _by_rate(method, rates, metrics[0])
    usable = {rate: value for rate, value in by_rate.items() if not math.isnan(value)} or by_rate
    wanted = metrics[0].best(usable.values()) if usable else None
    rate = next((r for r, value in usable.items() if value == wanted), next(iter(rates)))
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
    method: str, rates: Mapping[Rates, Sequence[Record]], metric: Metric
) -> dict[Rates, float]:
    """Mean last validation by rate, over the seeds that every rate has, if there are any.

    With more seeds at one rate than at another, the means would differ by the seeds too.
    """
    common = set.intersection(*({run['seed'] for run in runs} for runs in rates.values()))
    found = {}
    for rate in sorted(rates, key=lambda each: (each.head, each.inner or 0)):
        runs = [run for run in rates[rate] if run['seed'] in common] or rates[rate]
        values = _values(runs, metric, _last)
        if values:
            found[rate] = statistics.mean(values)
    if len(rates) > 1 and len(found) < len(rates):
        lacking = ', '.join(str(rate) for rate in rates if rate not in found)
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


def paired(row: Row, reference: Row, name: str) -> list[float]:
    """What a method has more than the reference, one value for each seed that both have."""
    ours, theirs = row.by_seed(name), reference.by_seed(name)
    return [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of at least two values, by Student's t distribution."""
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    error = statistics.stdev(values) / math.sqrt(len(values))
    half = float(stdtrit(len(values) - 1, 0.975)) * error
    return statistics.mean(values) - half, statistics.mean(values) + half


def fewer_rates(rows: Sequence[Row]) -> dict[str, str]:
    """The methods that had a smaller choice of rates than others, each with how much smaller.

    Of a method with nothing inside, the head's rates alone are counted.
    """
    heads = {row.name: len({rates.head for rates in row.by_rate}) for row in rows}
    both = {row.name: len(row.by_rate) for row in rows if row.rates.inner is not None}
    found = {}
    for row in rows:
        counts = heads if row.rates.inner is None else both
        own, most = counts[row.name], max(counts.values())
        if own < most:
            found[row.name] = f'{row.name} at {own} of {most}'
    return found
