"""A grid runs, is killed, goes on, and becomes a table."""

import json
import os
import signal
import subprocess
import time

import pytest

from mmsigma.analysis import grid, records
from tests.fixtures import ROOT

GRID = """
leaf = '{leaf}'
methods = dict(
    sigma={{}},
    frozen={{'model.backbone.tuner': dict(type='Frozen', _delete_=True)}},
)
options = {{'train_cfg.val_interval': 2}}
rates = [1e-3]
seeds = [0]
metric = 'mIoU'
"""
ALONE = [("    frozen={'model.backbone.tuner': dict(type='Frozen', _delete_=True)},\n", '')]


@pytest.fixture
def write_grid(place):
    def write(name, iters=4, replace=()):
        leaf = place.config(iters=iters, interval=2)
        text = GRID.format(leaf=leaf.name)
        for old, new in replace:
            text = text.replace(old, new)
        path = place.root / f'{name}.py'
        path.write_text(text)
        return path

    return write


def names(folder):
    return sorted(p.stem for p in folder.glob('*.json'))


def test_runs_once_and_becomes_a_table(place, write_grid, capsys):
    path = write_grid('small')
    done = place.spawn('grid', path)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = place.root / 'results/small'
    assert names(folder) == ['frozen_lr0.001_seed0', 'sigma_lr0.001_seed0']
    record = json.loads((folder / 'sigma_lr0.001_seed0.json').read_text())
    assert [line['step'] for line in record['validation']] == [2, 4]
    assert set(record['test']) == {'aAcc', 'mIoU', 'mAcc'}
    assert record['share_percent'] > 0 < record['seconds_per_step']
    assert len(record['by_class']['test']) == 11 and record['setting']['dataset'] == 'camvid'
    assert record['peak_memory_mib'] > 100
    assert record['versions']['torch'] and record['device']

    # Nothing runs a second time.
    before = {p: p.stat().st_mtime_ns for p in place.root.glob('work_dirs/small/*/output.txt')}
    assert place.call('grid', path) == 0
    assert '2 finished' in capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in before}

    page, picture = place.root / 'page.md', place.root / 'plot.png'
    page.write_text(
        f'Before.\n<!-- table: python tools/table.py {folder} -->\n<!-- end -->\nBehind.'
    )
    assert place.call('table', folder, '--write', page, '--plot', picture) == 0
    text = page.read_text()
    assert text.startswith('Before.\n<!--') and text.endswith('-->\nBehind.')
    assert text.count('\n| ') == 4 and '| sigma |' in text and '| frozen | 0.00 |' in text
    assert place.call('table', folder, '--write', place.root / 'none.md') == 1
    assert picture.read_bytes().startswith(b'\x89PNG')

    # A record of another config is never taken for this one's.
    path.write_text(path.read_text().replace("'train_cfg.val_interval': 2", "'max_iters': 5"))
    assert place.call('grid', path) == 1
    assert 'record of another config' in capsys.readouterr().err


def test_killed_in_the_middle_it_goes_on(place, write_grid):
    path = write_grid('killed', iters=60, replace=ALONE)
    process = subprocess.Popen(
        place.command('grid', path),
        cwd=place.root,
        env={**os.environ, **place.env},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    run = place.root / 'work_dirs/killed/sigma_lr0.001_seed0'
    deadline = time.monotonic() + 180
    while not list(run.glob('iter_*.pth')) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(run.glob('iter_*.pth')) and not (place.root / 'results/killed').exists()
    done = place.spawn('grid', path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(run.glob('*/vis_data'))) == 2  # two starts
    train, validation, _ = records.scalars(run)
    assert [line['step'] for line in train] == list(range(1, 61))
    assert validation[-1]['step'] == 60


@pytest.mark.parametrize(
    ('replace', 'said'),
    [
        ({"leaf = '": "leaf = 'no/"}, 'does not exist; its folder'),
        ({'[1e-3]': '[1e-3, 1e-3]'}, 'runs of the same name'),
        ({"metric = 'mIoU'": ''}, 'needs `metric`'),
        ({'seeds': 'seds'}, 'seds'),
        ({"type='Frozen'": "type='Frosen'"}, 'method|frozen: UnknownNameError'),
    ],
)
def test_a_grid_that_cannot_run_is_refused_before_its_first_run(
    place, write_grid, replace, said, capsys
):
    path = write_grid('refused', replace=replace.items())
    assert place.call('grid', path) == 1
    error = capsys.readouterr().err
    assert any(text in error for text in said.split('|')), error
    assert not (place.root / 'work_dirs/refused').exists()


def test_a_run_that_fails_does_not_stop_the_others(place, write_grid):
    path = write_grid('failing', replace=[*ALONE, ('[1e-3]', '[1e30, 1e-3]')])
    done = place.spawn('grid', path, '--jobs', 2)
    assert done.returncode == 1
    assert 'Run the same command again' in done.stderr
    assert names(place.root / 'results/failing') == ['sigma_lr0.001_seed0']


def test_the_hash_knows_no_folder_and_every_setting(place, write_grid, monkeypatch):
    path = write_grid('hashed')
    for name, value in place.env.items():
        monkeypatch.setenv(name, value)
    runs, _ = grid.read(path)
    first = [run.hash for run in runs]
    assert len(set(first)) == 2
    monkeypatch.setenv('MMSIGMA_DATA', '/elsewhere/data')
    assert [run.hash for run in grid.read(path)[0]] == first
    path.write_text(path.read_text().replace("'train_cfg.val_interval': 2", "'max_iters': 3"))
    assert not set(first) & {run.hash for run in grid.read(path)[0]}


@pytest.mark.parametrize(
    'path', sorted((ROOT / 'configs/grids').glob('*.py')), ids=lambda p: p.stem
)
def test_every_grid_reads(path):
    runs, _ = grid.read(path)
    assert len({run.hash for run in runs}) == len(runs)
