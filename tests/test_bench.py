"""``tools/bench.py`` on a model of milliseconds."""

import argparse
import json
import os
from itertools import pairwise
from pathlib import Path

import bench
import pytest

from tests.processes import ROOT, Process

SCRIPT = ROOT / 'tools/bench.py'


@pytest.mark.slow
def test_quick_run_reports_every_variant(tmp_path: Path) -> None:
    out = tmp_path / 'new' / 'bench.json'
    arguments = ['--quick', '--device', 'cpu', '--repeats', '2', '--threads', '1', '--json', out]
    said = tmp_path / 'said.txt'
    done = Process([SCRIPT, *arguments], tmp_path, dict(os.environ), said).finish()
    assert done.returncode == 0, done.stdout
    report = json.loads(out.read_text())
    assert report['header']['threads'] == 1
    assert {'cpu', 'dtype', 'device', 'torch', 'repeats'} <= report['header'].keys()
    (case,) = report['cases']
    assert case['case']['batch'] == 2
    assert list(case['variants']) == list(bench.VARIANTS)
    for name, row in case['variants'].items():
        assert f'| {name} |' in done.stdout
        assert len(row['all_seconds']) == 2
        assert row['seconds'] > 0
        assert row['peak_memory_mib'] is None or row['peak_memory_mib'] > 0
    rows = case['variants']
    assert rows['full']['ratio_to_full'] == rows['bias only']['ratio_to_floor'] == 1
    trained = {name: row['trained_parameters'] for name, row in rows.items()}
    assert trained['frozen forward'] == 0
    assert 0 < trained['bias only'] < trained['SIGMA fast'] == trained['SIGMA plain']


def test_shapes() -> None:
    case = bench.Case.parse('vit_small_patch14_dinov2:224x308:4')
    assert case == bench.Case('vit_small_patch14_dinov2', 224, 308, 4)
    assert bench.CASES['cpu'][0] == case
    for text in ('vit:224:4', 'vit:224x308', 'vit:axb:1'):
        with pytest.raises(argparse.ArgumentTypeError, match='no MODEL:HEIGHTxWIDTH:BATCH'):
            bench.Case.parse(text)


@pytest.mark.parametrize('repeats', [1, 3])
def test_variants_run_in_turns(monkeypatch: pytest.MonkeyPatch, repeats: int) -> None:
    order = []
    names = {id(tuner): name for name, tuner in bench.VARIANTS.items()}
    monkeypatch.setattr(bench, 'build', lambda case, tuner, device: (tuner, None))
    monkeypatch.setattr(
        bench,
        'timed_step',
        lambda tuner, _, gradient, low, clock: order.append((names[id(tuner)], gradient)) or 1.0,
    )
    seconds = bench.measure_time(bench.QUICK[0], 'cpu', repeats)
    assert {name: len(taken) for name, taken in seconds.items()} == dict.fromkeys(
        bench.VARIANTS, repeats
    )
    many = len(bench.VARIANTS)
    rounds = [order[i : i + many] for i in range(0, len(order), many)]
    assert len(rounds) == repeats + 1  # one to warm up
    assert all(first == second[::-1] for first, second in pairwise(rounds))
    assert all(gradient == (name != 'frozen forward') for name, gradient in order)
