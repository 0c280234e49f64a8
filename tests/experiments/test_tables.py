"""What a table says of records: which rate, which scores, in which order."""

import math

import pytest

from mmsigma.errors import InvalidSettingError, UnknownNameError
from mmsigma.experiments import tables
from tests.records import record, save


def row(*records, metrics=('mIoU',), **more):
    (found,) = tables.rows(records, metrics, **more)
    return found


def test_validation_chooses_the_rate_and_never_the_test():
    found = row(
        record(rate=1e-3, val=(60.0, 41.0), test=99.0),
        record(rate=3e-3, val=(10.0, 42.0), test=1.0),
    )
    assert found.rates.head == 3e-3  # neither the best test nor the best validation on the way
    assert found.by_rate == {(1e-3, None): 41.0, (3e-3, None): 42.0}
    assert found.scores['mIoU'] == tables.Score(last=[42.0], best=[42.0], test=[1.0])


def test_best_is_of_one_step_for_all_metrics():
    run = record(val=(50.0, 40.0))
    run['validation'][0]['aAcc'], run['validation'][1]['aAcc'] = 70.0, 80.0
    scores = row(run, metrics=('mIoU', 'aAcc')).scores
    assert (scores['mIoU'].last, scores['mIoU'].best) == ([40.0], [50.0])
    assert (scores['aAcc'].last, scores['aAcc'].best) == ([80.0], [70.0])
    assert scores['aAcc'].test == []


def test_rates_are_compared_on_the_seeds_that_all_of_them_have():
    # Two further seeds at the rate that won with the first bring its mean below the other's.
    found = row(
        record(rate=1e-2, seed=0, val=(44.0,)),
        record(rate=1e-2, seed=1, val=(40.0,)),
        record(rate=1e-2, seed=2, val=(39.0,)),
        record(rate=1e-3, seed=0, val=(43.0,)),
    )
    assert found.rates.head == 1e-2
    assert found.scores['mIoU'].last == [44.0, 40.0, 39.0]


def test_without_common_seeds_all_count():
    found = row(record(rate=1e-2, seed=1, val=(4.0,)), record(rate=1e-3, seed=0, val=(5.0,)))
    assert found.rates.head == 1e-3


def test_validation_chooses_the_pair_of_rates():
    found = row(
        record(rate=1e-2, inner=1e-3, val=(41.0,)),
        record(rate=1e-2, inner=3e-4, val=(43.0,), test=5.0),
        record(rate=3e-3, inner=1e-3, val=(42.0,)),
    )
    assert found.rates == (1e-2, 3e-4) and str(found.rates) == '0.01 / 0.0003'
    assert found.by_rate == {(3e-3, 1e-3): 42.0, (1e-2, 3e-4): 43.0, (1e-2, 1e-3): 41.0}
    assert found.scores['mIoU'].test == [5.0]


def test_a_smaller_choice_of_rates_is_told():
    pairs = [(rate, inner) for rate in (1e-2, 3e-3) for inner in (1e-3, 3e-4)]
    full = [record('sigma', rate, inner=inner) for rate, inner in pairs]
    less = [record('lora', rate, inner=inner) for rate, inner in pairs[:3]]
    frozen = [record('frozen', rate) for rate in (1e-2, 3e-3)]
    found = tables.fewer_rates(tables.rows([*full, *less, *frozen], ['mIoU']))
    assert found == {'lora': 'lora at 3 of 4'}  # nothing is inside of frozen: both of two
    found = tables.fewer_rates(tables.rows([*full, *frozen[:1]], ['mIoU']))
    assert found == {'frozen': 'frozen at 1 of 2'}


def test_differences_are_of_the_seeds_that_both_have():
    runs = [record('lora', seed=seed, test=30.0 + seed) for seed in (0, 1, 2)]
    runs += [record('sigma', seed=seed, test=value) for seed, value in ((2, 31.0), (1, 29.0))]
    lora, sigma = tables.rows(runs, ['mIoU'])
    assert tables.paired(lora, sigma, 'mIoU') == [2.0, 1.0]


def test_the_interval_is_students():
    # Of three values: 4.303 standard errors, from any table.
    low, high = tables.interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), abs=1e-4)


def test_records_of_several_protocols_are_refused():
    runs = [record('a', protocol={'data': 'x'}), record('b', protocol={'data': 'y'})]
    with pytest.raises(InvalidSettingError, match=r'data: a_lr0\.001_seed0'):
        tables.rows(runs, ['mIoU'])


def test_of_errors_less_is_better():
    records = [
        record('a', 1e-3, val=(0.4, 0.3), test=0.5, metric='rmse'),
        record('a', 1e-2, val=(0.1, 0.2), test=0.6, metric='rmse'),
        record('b', 1e-2, val=(0.1, 0.2), test=0.4, metric='rmse'),
    ]
    b, a = tables.rows(records, ['rmse'])
    assert (a.method, a.rates.head, a.scores['rmse'].best) == ('a', 1e-2, [0.1])
    assert b.method == 'b'


def test_detection_has_percents_and_no_test():
    found = row(record(val=(0.412,), test=None, metric='coco/bbox_mAP'), metrics=['coco/bbox_mAP'])
    score = found.scores['coco/bbox_mAP']
    assert score.final == score.last == pytest.approx([41.2])
    assert score.test == []


def test_a_run_that_was_not_finite_loses():
    runs = [record(rate=1e-2, val=(None,)), record(rate=1e-3, val=(3.0,))]
    found = row(*runs)
    assert found.rates.head == 1e-3 and math.isnan(found.by_rate[1e-2, None])
    assert math.isnan(row(runs[0]).by_rate[1e-2, None])


def test_a_score_that_a_seed_lacks_is_missing():
    found = row(record(seed=0), record(seed=1, test=None))
    assert found.scores['mIoU'].test == [] and len(found.scores['mIoU'].last) == 2


def test_measured_cost_stands_in():
    found = row(record(), cost={'lora': {'seconds': 9.0, 'peak_memory_mib': 8}})
    assert (found.seconds, found.memory) == (9.0, 8)
    found = row(record(seconds_per_step=None, peak_memory_mib=None), cost={'other': {}})
    assert (found.seconds, found.memory) == (None, None)


def test_trunks_have_rows_of_their_own():
    runs = [record(setting={'trunk': name}) for name in ('s', 'b')]
    assert [found.trunk for found in tables.rows(runs, ['mIoU'])] == ['s', 'b']


def test_default_metric_is_that_of_the_grid():
    assert tables.default_metric([record()]) == 'mIoU'
    assert tables.default_metric([{**record(), 'metric': 'PQ'}]) == 'PQ'


def test_unknown_metric_names_those_of_the_records():
    with pytest.raises(UnknownNameError, match=r'mIuO.*mIoU'):
        tables.rows([record()], ['mIuO'])


def test_a_seed_twice_is_refused():
    with pytest.raises(InvalidSettingError, match='two records of one seed'):
        tables.rows([record(), record()], ['mIoU'])


def test_rates_without_validation_are_refused():
    with pytest.raises(InvalidSettingError, match='to choose by'):
        tables.rows([record(val=()), record(rate=1e-2)], ['mIoU'])
    assert row(record(val=())).scores['mIoU'].test == [30.0]  # one rate needs no choice


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
