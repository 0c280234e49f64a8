"""What a table says of records: which rate, which scores, in which order."""

import math

import pytest

from mmsigma.errors import InvalidSettingError, UnknownNameError
from mmsigma.experiments import tables
from tests.records import record, save


def compare(*records, metrics=('mIoU',), **more):
    return tables.compare(records, metrics, **more)


def rates(found):
    """Head's rate and inner rate of the only method."""
    ((rate, inner),) = set(zip(found.runs.rate, found.runs.inner, strict=True))
    return rate, inner


def by_rate(found):
    lines = found.by_rate
    return dict(zip(zip(lines.rate, lines.inner, strict=True), lines['value'], strict=True))


def scores(found, name='mIoU', method=None):
    """Last and best validation and the test, one value per seed."""
    runs = found.runs if method is None else found.runs[found.runs.method == method]
    return [runs[f'{kind} {name}'].tolist() for kind in ('last', 'best', 'test')]


def test_validation_chooses_the_rate_and_never_the_test():
    found = compare(
        record(rate=1e-3, val=(60.0, 41.0), test=99.0),
        record(rate=3e-3, val=(10.0, 42.0), test=1.0),
    )
    assert rates(found) == (3e-3, 0)  # neither the best test nor the best validation on the way
    assert by_rate(found) == {(1e-3, 0): 41.0, (3e-3, 0): 42.0}
    assert scores(found) == [[42.0], [42.0], [1.0]]


def test_best_is_of_one_step_for_all_metrics():
    run = record(val=(50.0, 40.0))
    run['validation'][0]['aAcc'], run['validation'][1]['aAcc'] = 70.0, 80.0
    found = compare(run, metrics=('mIoU', 'aAcc'))
    assert scores(found)[:2] == [[40.0], [50.0]]
    assert scores(found, 'aAcc')[:2] == [[80.0], [70.0]]
    assert math.isnan(scores(found, 'aAcc')[2][0])


def test_rates_are_compared_on_the_seeds_that_all_of_them_have():
    # Two further seeds at the rate that won with the first bring its mean below the other's.
    found = compare(
        record(rate=1e-2, seed=0, val=(44.0,)),
        record(rate=1e-2, seed=1, val=(40.0,)),
        record(rate=1e-2, seed=2, val=(39.0,)),
        record(rate=1e-3, seed=0, val=(43.0,)),
    )
    assert rates(found) == (1e-2, 0)
    assert scores(found)[0] == [44.0, 40.0, 39.0]


def test_without_common_seeds_all_count():
    found = compare(record(rate=1e-2, seed=1, val=(4.0,)), record(rate=1e-3, seed=0, val=(5.0,)))
    assert rates(found) == (1e-3, 0)


def test_validation_chooses_the_pair_of_rates():
    found = compare(
        record(rate=1e-2, inner=1e-3, val=(41.0,)),
        record(rate=1e-2, inner=3e-4, val=(43.0,), test=5.0),
        record(rate=3e-3, inner=1e-3, val=(42.0,)),
    )
    assert rates(found) == (1e-2, 3e-4)
    assert by_rate(found) == {(3e-3, 1e-3): 42.0, (1e-2, 3e-4): 43.0, (1e-2, 1e-3): 41.0}
    assert scores(found)[2] == [5.0]


def test_a_smaller_choice_of_rates_is_told():
    pairs = [(rate, inner) for rate in (1e-2, 3e-3) for inner in (1e-3, 3e-4)]
    full = [record('sigma', rate, inner=inner) for rate, inner in pairs]
    less = [record('lora', rate, inner=inner) for rate, inner in pairs[:3]]
    frozen = [record('frozen', rate) for rate in (1e-2, 3e-3)]
    found = compare(*full, *less, *frozen).fewer_rates()
    assert found == {('lora', ''): '3 of 4'}  # nothing is inside of frozen: both of two
    assert compare(*full, *frozen[:1]).fewer_rates() == {('frozen', ''): '1 of 2'}


def test_differences_are_of_the_seeds_that_both_have():
    runs = [record('lora', seed=seed, test=30.0 + seed) for seed in (0, 1, 2)]
    runs += [record('sigma', seed=seed, test=value) for seed, value in ((2, 31.0), (1, 29.0))]
    found = compare(*runs, record('frozen'))
    ((name, line),) = found.differences(found.metrics[0]).iterrows()
    assert name == ('lora', '') and line['mean'] == 1.5  # 2 and 1 more; frozen has one seed
    assert line['high'] - 1.5 == pytest.approx(12.7062 * 0.5, abs=1e-3)


def test_the_interval_is_students():
    # Of three values: 4.303 standard errors, from any table.
    runs = [record('sigma', seed=seed, test=0.0) for seed in range(3)]
    found = compare(*runs, *(record('lora', seed=seed, test=seed + 1.0) for seed in range(3)))
    line = found.differences(found.metrics[0]).loc[('lora', '')]
    wanted = (2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5)
    assert (line['low'], line['high']) == pytest.approx(wanted, abs=1e-4)


def test_trunks_are_compared_with_their_own_reference():
    runs = [
        record(method, seed=seed, test=test + seed, trunk=trunk, run=f'{method}_{trunk}_{seed}')
        for method, trunk, test in (
            ('sigma', 'small', 30.0), ('lora', 'small', 31.0),
            ('sigma', 'large', 50.0), ('lora', 'large', 48.0),
        )
        for seed in (0, 1)
    ]  # fmt: skip
    found = compare(*runs)
    means = found.differences(found.metrics[0])['mean'].to_dict()
    assert means == {('lora', 'small'): 1.0, ('lora', 'large'): -2.0}
    assert list(found.labels.values())[:2] == ['sigma, large', 'lora, large']


def test_records_of_several_protocols_are_refused():
    runs = [record('a', protocol={'data': 'x'}), record('b', protocol={'data': 'y'})]
    with pytest.raises(InvalidSettingError, match=r'data: a_lr0\.001_seed0'):
        compare(*runs)


def test_of_errors_less_is_better():
    found = compare(
        record('a', 1e-3, val=(0.4, 0.3), test=0.5, metric='rmse'),
        record('a', 1e-2, val=(0.1, 0.2), test=0.6, metric='rmse'),
        record('b', 1e-2, val=(0.1, 0.2), test=0.4, metric='rmse'),
        metrics=['rmse'],
    )
    assert found.runs.method.tolist() == ['b', 'a'] and found.runs.rate.tolist() == [1e-2, 1e-2]
    assert scores(found, 'rmse', 'a')[1] == [0.1]


def test_detection_has_percents_and_no_test():
    name = 'coco/bbox_mAP'
    found = compare(record(val=(0.412,), test=None, metric=name), metrics=[name])
    assert scores(found, name)[0] == found.runs[f'final {name}'].tolist() == pytest.approx([41.2])
    assert not found.tested


def test_a_run_that_was_not_finite_loses():
    runs = [record(rate=1e-2, val=(None,)), record(rate=1e-3, val=(3.0,))]
    found = compare(*runs)
    assert rates(found) == (1e-3, 0) and math.isinf(by_rate(found)[1e-2, 0])
    assert math.isinf(by_rate(compare(runs[0]))[1e-2, 0])


def test_a_score_that_a_seed_lacks_is_missing():
    found = compare(record(seed=0), record(seed=1, test=None))
    assert found.over_seeds('test mIoU').isna().all(axis=None)
    assert found.over_seeds('last mIoU')['mean'].tolist() == [40.0]
    assert found.runs['final mIoU'].tolist() == [40.0, 40.0]


def test_measured_cost_stands_in():
    (line,) = compare(record(), cost={'lora': {'seconds': 9.0, 'peak_memory_mib': 8}}).runs.iloc
    assert (line.seconds, line.memory) == (9.0, 8)
    (line,) = compare(
        record(seconds_per_step=None, peak_memory_mib=None), cost={'other': {}}
    ).runs.iloc
    assert math.isnan(line.seconds) and math.isnan(line.memory)


def test_trunks_have_rows_of_their_own():
    runs = [record(setting={'trunk': name}) for name in ('s', 'b')]
    assert compare(*runs).runs.trunk.tolist() == ['s', 'b']


def test_unknown_metric_names_those_of_the_records():
    with pytest.raises(UnknownNameError, match=r'mIuO.*mIoU'):
        compare(record(), metrics=['mIuO'])


def test_a_seed_twice_is_refused():
    with pytest.raises(InvalidSettingError, match='two records of one seed'):
        compare(record(), record())


def test_rates_without_validation_are_refused():
    with pytest.raises(InvalidSettingError, match=r'to choose by at rate 0\.001'):
        compare(record(val=()), record(rate=1e-2))
    assert scores(compare(record(val=())))[2] == [30.0]  # one rate needs no choice


def test_load_refuses_what_is_no_record(tmp_path):
    with pytest.raises(InvalidSettingError, match='holds no records'):
        tables.load([tmp_path])
    folder = save(tmp_path / 'a', record())
    assert len(tables.load([folder])) == 1
    with pytest.raises(InvalidSettingError, match='second record'):
        tables.load([folder, save(tmp_path / 'b', record())])
    (folder / 'lora_lr1_seed0.json').write_text('{')
    with pytest.raises(InvalidSettingError, match='is no record'):
        tables.load([folder])
