"""A grid runs, is killed, goes on, and becomes a table."""

import json
import os
import signal
import subprocess
import time

import pytest
from mmengine.config import Config

from mmsigma.analysis import grid, records
from tests.fixtures import ROOT, logged

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

    # A record of another config is never taken for this one's; what has none would still be run.
    path.write_text(path.read_text().replace("'train_cfg.val_interval': 2", "'max_iters': 5"))
    (folder / 'frozen_lr0.001_seed0.json').unlink()
    assert place.call('grid', path, '--dry-run') == 1
    said = capsys.readouterr()
    assert 'record of another config' in said.err and '1 of 2 runs failed' in said.err
    assert 'frozen_lr0.001_seed0                    open' in said.out


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


def test_asked_to_stop_it_saves_the_step_in_flight(place, write_grid):
    path = write_grid('stopped', iters=60, replace=ALONE)
    process = subprocess.Popen(
        place.command('grid', path),
        cwd=place.root,
        env={**os.environ, **place.env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = place.root / 'work_dirs/stopped/sigma_lr0.001_seed0'
    deadline = time.monotonic() + 180
    while not logged(run) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert '1 of 1 runs are open' in process.communicate()[1]
    assert process.returncode == 75
    steps = max(logged(run))
    assert (run / 'last_checkpoint').read_text().endswith(f'iter_{steps}.pth')
    done = place.spawn('grid', path, '--checkpoint-interval', 7)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(logged(run, last_run=True)) == list(range(steps + 1, 61))
    assert names(place.root / 'results/stopped') == ['sigma_lr0.001_seed0']
    assert (run / 'iter_56.pth').exists()  # of the option, which is no part of the hash


def test_torchrun_shares_the_batch_of_the_config(place, write_grid):
    path = write_grid('shared', replace=ALONE)
    done = place.spawn('grid', path, '--launcher', 'pytorch', '--processes', 2)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = (place.root / 'results/shared').glob('*.json')
    assert json.loads(file.read_text())['processes'] == 2
    work_dir = place.root / f'work_dirs/shared/{file.stem}'
    assert Config.fromfile(work_dir / 'run.py').train_dataloader.batch_size == 1
    assert 'GPU number: 2' in (work_dir / 'output.txt').read_text()


def test_commands_and_scripts_for_other_machines(place, write_grid, capsys):
    path = write_grid('elsewhere')
    assert place.call('grid', path, '--dry-run', '--launcher', 'pytorch', '--processes', 2) == 0
    out = capsys.readouterr().out
    assert out.count('torch.distributed.run --standalone --nproc-per-node=2') == 2
    assert place.call('grid', path, '--launcher', 'slurm', '--run', 'sigma_lr0.001_seed0') == 0
    script = place.root / 'work_dirs/elsewhere/array.sh'
    assert f'sbatch {script.relative_to(place.root)}' in capsys.readouterr().out
    assert '--array=0-0' in script.read_text() and 'frozen' not in script.read_text()
    assert place.call('grid', path, '--run', 'sigma_lr0.1_seed0') == 1
    assert "Did you mean 'sigma_lr0.001_seed0'" in capsys.readouterr().err
    assert place.call('grid', path, '--devices', '0,0') == 1
    assert place.call('grid', path, '--launcher', 'pytorch', '--processes', 3) == 1
    assert '3 processes cannot share a batch of 2' in capsys.readouterr().err


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
    assert '1 of 2 runs failed:\n  sigma_lr1e+30_seed0: ended in NaN: The loss' in done.stderr
    assert '--run sigma_lr1e+30_seed0' in done.stderr
    output = place.root / 'work_dirs/failing/sigma_lr1e+30_seed0/output.txt'
    assert output.read_text().count('error: ') == 1  # no second try
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
