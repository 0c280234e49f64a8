"""What the records of a grid say about each method, in pandas frames.

A method's learning rates, the head's and the one inside the trunk, are those with the best
validation after the last step. The test split never chooses anything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown
from mmsigma.experiments import protocol
from mmsigma.experiments.metrics import Metric, named

if TYPE_CHECKING:
    from pandas import DataFrame

Record = Mapping[str, Any]
# What others are compared with, seed by seed.
REFERENCE = 'sigma'
METHOD = ['method', 'trunk']
RATES = ['rate', 'inner']


@dataclass(frozen=True)
class Comparison:
    """Methods at their best rates.

    Attributes:
        metrics: The first one chooses the rates and the order.
        by_rate: A line for each method, trunk and rates with ``value``: the first metric after the
            last step, mean over the seeds that all rates of the method have.
        runs: A line for each run at its method's best rates, the best method first, by seed:
            ``method``, ``trunk``, ``rate``, ``inner`` (rate inside the trunk, 0 where the grid does
            not say), ``seed``, ``share`` (percent of the trunk), ``seconds`` (of a step),
            ``memory`` (MiB), ``record``, and of each metric ``last <name>`` (validation after the
            last step), ``best <name>`` (after the step with the best first metric), ``test <name>``
            and ``final <name>``: the test, or without one the last validation. NaN is what a
            record lacks, the worse infinity what was not finite.
    """

    metrics: Sequence[Metric]
    by_rate: DataFrame
    runs: DataFrame

    @property
    def first_runs(self) -> DataFrame:
        """The line of each method's first seed, by method and trunk."""
        return self.runs.drop_duplicates(METHOD).set_index(METHOD)

    @property
    def labels(self) -> dict[tuple[str, str], str]:
        """By method and trunk, what to call it: the method, with the trunk if there are several."""
        names = list(self.first_runs.index)
        several = len({trunk for _, trunk in names}) > 1
        return {name: ', '.join(filter(None, name)) if several else name[0] for name in names}

    @property
    def tested(self) -> bool:
        """Whether some method has a test score of one of the metrics."""
        return any(self.over_seeds(f'test {m.name}')['mean'].notna().any() for m in self.metrics)

    def over_seeds(self, column: str) -> DataFrame:
        """Mean, and ``std`` of a sample, by method and trunk; NaN where a seed has no value."""
        found = self.runs.groupby(METHOD, sort=False)[column].agg(['mean', 'std', 'count', 'size'])
        return found[['mean', 'std']].where(found['count'] == found['size'])

    def differences(self, metric: Metric) -> DataFrame:
        """What methods have more than :data:`REFERENCE` of their trunk, over the seeds of both.

        Returns:
            ``mean``, and ``low`` and ``high`` of the 95 % interval by Student's t distribution, by
            method and trunk, of those that share at least two seeds.
        """
        from scipy.stats import t  # type: ignore[import-untyped]

        column = f'final {metric.name}'
        others = self.runs[self.runs.method != REFERENCE]
        ours = self.runs[self.runs.method == REFERENCE][['trunk', 'seed', column]]
        pairs = others.merge(ours, on=['trunk', 'seed'], suffixes=('', ' of reference'))
        pairs['difference'] = pairs[column] - pairs[f'{column} of reference']
        found = pairs.groupby(METHOD, sort=False)['difference'].agg(['mean', 'sem', 'count'])
        found = found[found['count'] > 1]
        half = t.ppf(0.975, found['count'] - 1) * found['sem']
        return found[['mean']].assign(low=found['mean'] - half, high=found['mean'] + half)

    def fewer_rates(self) -> dict[tuple[str, str], str]:
        """By method and trunk, ``n of m`` for those with a smaller choice of rates than others.

        Of a method with nothing inside, the head's rates alone are counted.
        """
        grouped = self.by_rate.groupby(METHOD, sort=False)
        heads, both = grouped['rate'].nunique(), grouped.size()
        inside = grouped['inner'].max() > 0
        own = both.where(inside, heads)
        most = {True: both[inside].max(), False: heads.max()}
        texts = {name: (own[name], most[inside[name]]) for name in self.first_runs.index}
        return {name: f'{few} of {many}' for name, (few, many) in texts.items() if few < many}


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


def compare(
    records: Sequence[Record], names: Sequence[str], cost: Mapping[str, Any] | None = None
) -> Comparison:
    """Choose each method's rates, and put the best method first.

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
    import pandas

    protocol.check(records)
    lines = [line for r in records for line in [*r['validation'], r.get('test') or {}]]
    known = {name: None for line in lines for name in line if name != 'step'}
    for name in names:
        if name not in known:
            raise UnknownNameError(unknown('metric', name, known))
    metrics = [named(name) for name in names]
    runs = pandas.DataFrame([_line(record, metrics) for record in records])
    twice = runs[runs.duplicated([*METHOD, *RATES, 'seed'], keep=False)]
    if not twice.empty:
        first = twice.iloc[0]
        raise InvalidSettingError(
            f'{first.method} has two records of one seed at rate {first.rate:g}: '
            f'{", ".join(sorted(r["run"] for r in twice.record))}. A table is of one grid.'
        )
    for column, key in (('seconds', 'seconds'), ('memory', 'peak_memory_mib')):
        measured = {method: found[key] for method, found in (cost or {}).items() if key in found}
        runs[column] = runs['method'].map(measured).fillna(runs[column])
    by_rate, chosen, final = [], {}, {}
    for name, group in runs.groupby(METHOD, sort=False):
        values = _by_rate(group, metrics[0])
        best = values['value'].min() if metrics[0].lower else values['value'].max()
        rates = values[values['value'].eq(best) | values['value'].isna().all()].iloc[0]
        at_best = group[(group.rate == rates.rate) & (group.inner == rates.inner)]
        by_rate.append(values)
        chosen[name] = _with_final(at_best.sort_values('seed'), metrics)
        final[name] = chosen[name][f'final {metrics[0].name}'].mean(skipna=False)
    order = pandas.Series(final).sort_values(ascending=metrics[0].lower, kind='stable').index
    ordered = pandas.concat([chosen[name] for name in order], ignore_index=True)
    return Comparison(metrics, pandas.concat(by_rate), ordered)


def _line(record: Record, metrics: Sequence[Metric]) -> dict[str, Any]:
    """One line of a frame of runs; see :class:`Comparison`."""
    validations = record['validation']
    splits = {
        'last': validations[-1] if validations else {},
        'best': metrics[0].best_line(validations) or {},
        'test': record.get('test') or {},
    }
    pairs = [(kind, metric) for kind in splits for metric in metrics]
    return {
        'method': record['method'],
        'trunk': record.get('trunk') or (record.get('setting') or {}).get('trunk') or '',
        'rate': record['rate'],
        'inner': record.get('inner_rate') or 0.0,
        'seed': record['seed'],
        'share': record['share_percent'],
        'seconds': record.get('seconds_per_step') or math.nan,
        'memory': record.get('peak_memory_mib') or math.nan,
        'record': record,
        **{f'{kind} {metric.name}': metric.shown(splits[kind]) for kind, metric in pairs},
    }


def _by_rate(group: DataFrame, metric: Metric) -> DataFrame:
    """The lines of one method in :attr:`Comparison.by_rate`.

    With more seeds at one rate than at another, the means would differ by the seeds too.
    """
    seeds = group.groupby(RATES)['seed'].agg(set)
    common = set.intersection(*seeds)
    shared = group[group.seed.isin(common)] if common else group
    found = shared.groupby([*METHOD, *RATES])[f'last {metric.name}'].agg(
        lambda values: values.mean(skipna=False)
    )
    table = found.rename('value').reset_index()
    lacking = table[table['value'].isna()]
    if len(table) > 1 and len(lacking):
        pairs = zip(lacking.rate, lacking.inner, strict=True)
        rates = ', '.join(
            f'{rate:g} / {inner:g}' if inner else f'{rate:g}' for rate, inner in pairs
        )
        raise InvalidSettingError(
            f'{group.method.iloc[0]} has several rates, and no {metric.name} of a validation to '
            f'choose by at rate {rates}. Name first a --metric that every validation has.'
        )
    return table


def _with_final(group: DataFrame, metrics: Sequence[Metric]) -> DataFrame:
    for metric in metrics:
        test = group[f'test {metric.name}']
        final = test if test.notna().all() else group[f'last {metric.name}']
        group = group.assign(**{f'final {metric.name}': final})
    return group
