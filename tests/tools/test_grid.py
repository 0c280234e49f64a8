"""A grid runs, is killed, goes on, and becomes a table."""

import json
import os
import re
import signal
import time

import pytest
from mmengine.config import Config

from mmsigma.experiments import grid, logs, records, tables
from tests.fixtures import ROOT, load, logged

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
    assert record['setting']['dataset'] == 'camvid'
    for scores, means in (('validation', record['last']), ('test', record['test'])):
        found = [x for x in record['by_class'][scores].values() if x is not None]
        assert len(record['by_class'][scores]) == 11
        assert sum(found) / len(found) == pytest.approx(means['mIoU'], abs=0.01)
    assert record['peak_memory_mib'] > 100
    known = {'mmsigma', 'torch', 'mmengine', 'mmcv', 'mmseg', 'timm', 'numpy', 'python'}
    assert known <= set(record['versions']) and record['device']
    assert record['last'] == record['validation'][-1]
    assert record['best'] in record['validation']
    found = tables.compare([record], ['mIoU'])
    assert found.runs['best mIoU'].tolist() == [record['best']['mIoU']]
    work_dir = place.root / 'work_dirs/small/sigma_lr0.001_seed0'
    assert record['commit'] == ', '.join(records.marked(work_dir, 'commits')) != ''

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
    assert text.count('\n|') == 4
    assert re.search(r'\| sigma +\|', text) and re.search(r'\| frozen +\| +0\.00 \|', text)
    assert place.call('table', folder, '--write', place.root / 'none.md') == 1
    assert picture.read_bytes().startswith(b'\x89PNG')

    # A record of another config is never taken for this one's; what has none would still be run.
    path.write_text(path.read_text().replace("'train_cfg.val_interval': 2", "'max_iters': 5"))
    (folder / 'frozen_lr0.001_seed0.json').unlink()
    assert place.call('grid', path, '--dry-run') == 1
    said = capsys.readouterr()
    assert 'record of another config' in said.err and '1 of 2 runs failed' in said.err
    assert 'frozen_lr0.001_seed0                    open' in said.out


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on(place, write_grid):
    path = write_grid('killed', iters=20, replace=ALONE)
    process = place.start('grid', path, session=True)
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
    train, validation, _ = logs.scalars(run)
    assert [line['step'] for line in train] == list(range(1, 21))
    assert validation[-1]['step'] == 20


@pytest.mark.slow
def test_killed_in_its_second_run_it_repeats_no_finished_one(place, write_grid):
    """SIGKILL of all its processes; with a checkpoint a step, it loses the step in flight."""
    path = write_grid('twice', iters=20)
    process = place.start('grid', path, '--checkpoint-interval', 1, session=True)
    runs = place.root / 'work_dirs/twice'
    first, second = (runs / f'{method}_lr0.001_seed0' for method in ('sigma', 'frozen'))
    deadline = time.monotonic() + 600
    while max(logged(second), default=0) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    last = max(logged(second))
    assert 5 <= last < 20
    record = place.root / f'results/twice/{first.name}.json'
    assert names(record.parent) == [first.name]
    files = [record, *(path for path in sorted(first.rglob('*')) if path.is_file())]
    before = [(path.stat().st_mtime_ns, path.read_bytes()) for path in files]

    done = place.spawn('grid', path, '--checkpoint-interval', 1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert before == [(path.stat().st_mtime_ns, path.read_bytes()) for path in files]
    assert len(list(first.glob('*/vis_data'))) == 1
    resumed = list(logged(second, last_run=True))
    assert resumed[0] >= last and resumed == list(range(resumed[0], 21))
    assert list(logged(second)) == list(range(1, 21))
    assert names(record.parent) == [second.name, first.name]


def test_asked_to_stop_it_saves_the_step_in_flight(place, write_grid):
    path = write_grid('stopped', iters=40, replace=ALONE)
    process = place.start('grid', path)
    run = place.root / 'work_dirs/stopped/sigma_lr0.001_seed0'
    deadline = time.monotonic() + 180
    while not logged(run) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    done = process.finish()
    assert done.returncode == 75 and '1 of 1 runs are open' in done.stderr
    steps = max(logged(run))
    assert (run / 'last_checkpoint').read_text().endswith(f'iter_{steps}.pth')
    done = place.spawn('grid', path, '--checkpoint-interval', 7)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(logged(run, last_run=True)) == list(range(steps + 1, 41))
    assert names(place.root / 'results/stopped') == ['sigma_lr0.001_seed0']
    assert (run / 'iter_35.pth').exists()  # of the option, which is no part of the hash


@pytest.mark.slow
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
    assert out.count('val_evaluator.type=mmsigma.IoUMetric test_evaluator.type=mmsigma.') == 2
    assert place.call('grid', path, '--launcher', 'slurm', '--run', 'sigma_lr0.001_seed0') == 0
    script = place.root / 'work_dirs/elsewhere/array.sh'
    assert f'sbatch {script.relative_to(place.root)}' in capsys.readouterr().out
    assert '--array=0-0' in script.read_text() and 'frozen' not in script.read_text()
    assert place.call('grid', path, '--run', 'sigma_lr0.1_seed0') == 1
    assert "Did you mean 'sigma_lr0.001_seed0'" in capsys.readouterr().err
    assert place.call('grid', path, '--devices', '0,0') == 1
    assert place.call('grid', path, '--launcher', 'pytorch', '--processes', 3) == 1
    assert '3 processes cannot share a batch of 2' in capsys.readouterr().err


@pytest.mark.slow
def test_from_nothing_to_a_report(place, write_grid):
    """One command; of a grid that failed in part the report says so."""
    broken = "    broken={'model.backbone.tuner.bottleneck': 0},\n)\noptions"
    path = write_grid('reported', replace=[(')\noptions', broken)])
    done = place.spawn('grid', path, '--markdown', 'out/page.md')
    assert done.returncode == 1, done.stdout + done.stderr
    assert '1 of 3 runs failed:\n  broken_lr0.001_seed0: SIGMA bottleneck' in done.stderr
    text = (place.root / 'out/page.md').read_text()
    assert 'In here are 2 of the 3 runs of the grid; failed: broken_lr0.001_seed0.' in text
    assert 'tools/grid.py' in text and 'IoU by class, test, points above frozen' in text
    assert '| sigma' in text and (place.root / 'out/figures/curves.png').exists()


def test_a_grid_without_a_finished_run_has_no_report(place, write_grid, capsys):
    path = write_grid('unreported', replace=[*ALONE, ('[0]', '[0, 0]')])
    assert place.call('grid', path, '--markdown', 'none.md') == 1
    error = capsys.readouterr().err
    assert 'two runs have this name' in error and 'No report: no run is finished' in error
    assert not (place.root / 'none.md').exists()
    assert place.call('grid', path, '--markdown', 'none.md', '--launcher', 'slurm') == 2


@pytest.mark.parametrize(
    ('replace', 'said'),
    [
        ({"leaf = '": "leaf = 'no/"}, 'does not exist; its folder'),
        ({'seeds = [0]': 'seeds = [0, 0]'}, 'two runs have this name'),
        ({"metric = 'mIoU'": ''}, 'needs `metric`'),
        ({'seeds': 'seds'}, 'seds'),
        ({'train_cfg.val_interval': 'train_cfg.max_iters.warm'}, 'Error'),
    ],
)
def test_a_grid_that_cannot_run_is_refused_before_its_first_run(
    place, write_grid, replace, said, capsys
):
    path = write_grid('refused', replace=replace.items())
    assert place.call('grid', path) == 1
    assert said in capsys.readouterr().err
    assert not (place.root / 'work_dirs/refused').exists()


def test_what_cannot_run_is_refused_and_the_rest_is_run(place, write_grid):
    """Two runs of one name, a model that does not build, the record of another config."""
    methods = "    narrow={'model.backbone.tuner.bottleneck': 4},\n)\noptions"
    rates = '[1e-3, 1e-3, 2e-3]'
    replace = [('Frozen', 'Frosen'), (')\noptions', methods), ('[1e-3]', rates)]
    path = write_grid('partial', replace=replace)
    foreign = place.root / 'results/partial/narrow_lr0.002_seed0.json'
    foreign.parent.mkdir(parents=True)
    foreign.write_text(json.dumps({'run': foreign.stem, 'config': 'another'}))
    before = foreign.read_text()
    done = place.spawn('grid', path)
    assert done.returncode == 1, done.stdout + done.stderr
    # All is said before the first run, and once more at the end.
    at_once, closing = done.stderr.split('5 of 6 runs failed')
    for text in (at_once, closing):
        assert 'sigma_lr0.001_seed0, frozen_lr0.001_seed0, narrow_lr0.001_seed0: two runs' in text
        assert "frozen_lr0.002_seed0: Unknown tuner 'Frosen'" in text
        assert 'the record of another config (another, this is' in text
    assert '--run sigma_lr0.001_seed0' in closing and 'sigma_lr0.002' not in closing
    assert names(foreign.parent) == ['narrow_lr0.002_seed0', 'sigma_lr0.002_seed0']
    assert foreign.read_text() == before
    assert [p.name for p in (place.root / 'work_dirs/partial').iterdir()] == ['sigma_lr0.002_seed0']


def test_inner_rates_are_a_second_axis(place):
    """A method may have rates and seeds of its own; without inner rates all is as before."""
    (place.root / 'axes_leaf.py').write_text('train_cfg = dict(max_iters=4)\n')
    path = place.root / 'axes.py'
    text = (
        "leaf = 'axes_leaf.py'\nrates = [1e-2, 3e-3]\nseeds = [0, 1]\nmetric = 'mIoU'\n"
        "methods = {'a': {}, 'b': {'rates': [1e-3], 'seeds': [0]}, 'c': {'inner_rates': [None]}}\n"
    )
    path.write_text(text)
    plain = {run.name: run.hash for run in grid.read(path)[0]}
    path.write_text(f'{text}inner_rates = [3e-4, 1e-3]\n')
    runs = {run.name: run for run in grid.read(path)[0]}
    assert list(runs) == [
        'a_lr0.01_inner0.0003_seed0', 'a_lr0.01_inner0.001_seed0',
        'a_lr0.003_inner0.0003_seed0', 'a_lr0.003_inner0.001_seed0',
        'b_lr0.001_inner0.0003_seed0', 'b_lr0.001_inner0.001_seed0',
        'c_lr0.01_seed0', 'c_lr0.003_seed0',
        'a_lr0.01_inner0.0003_seed1', 'a_lr0.01_inner0.001_seed1',
        'a_lr0.003_inner0.0003_seed1', 'a_lr0.003_inner0.001_seed1',
        'c_lr0.01_seed1', 'c_lr0.003_seed1',
    ]  # fmt: skip
    for run in runs.values():
        wrapper = run.config.optim_wrapper
        assert wrapper.optimizer.lr == run.rate
        if run.method == 'c':
            assert 'paramwise_cfg' not in wrapper and run.hash == plain[run.name]
        else:
            factor = wrapper.paramwise_cfg.custom_keys.backbone.lr_mult
            assert factor * run.rate == pytest.approx(run.inner)
        assert 'rates' not in run.config and 'seeds' not in run.config


# Steps that take longer than the grid takes to look at a log.
SLOW = """
import os
import time

from mmengine.runner import IterBasedTrainLoop

real = IterBasedTrainLoop.run_iter


def run_iter(self, batch):
    time.sleep(0.2 * ('MMSIGMA_SLOW' in os.environ))
    real(self, batch)


IterBasedTrainLoop.run_iter = run_iter
"""


def test_the_better_half_goes_on(place, write_grid, capsys, monkeypatch):
    """Stopped behind a validation; which half goes on is told, and what is far enough waits."""
    (place.root / 'slow_steps.py').write_text(SLOW)
    monkeypatch.syspath_prepend(place.root)
    replace = [
        *ALONE,
        ('sigma={}', "sigma={'custom_imports': dict(imports=['slow_steps'])}"),
        ('rates = [1e-3]', 'rates = [1e-3, 2e-3]\ninner_rates = [1e-4]'),
    ]
    path = write_grid('halved', iters=60, replace=replace)
    runs = place.root / 'work_dirs/halved'
    first, second = (f'sigma_lr{rate}_inner0.0001_seed0' for rate in ('0.001', '0.002'))
    words = ['--until', 2, '--run', first]
    done = place.spawn('grid', path, *words, PYTHONPATH=str(place.root), MMSIGMA_SLOW='1')
    assert done.returncode == 0, done.stdout + done.stderr
    steps = max(logged(runs / first))
    assert 2 <= steps < 60 and not (place.root / 'results/halved').exists()
    assert (runs / first / 'last_checkpoint').read_text().endswith(f'iter_{steps}.pth')
    output = runs / first / 'output.txt'
    before = output.read_text()
    assert place.call('grid', path, *words) == 0  # it is there already
    assert output.read_text() == before

    assert place.call('grid', path, '--halve', 2, '--dry-run') == 0
    assert 'no validation of all settings after step 2 (--until): sigma' in capsys.readouterr().out
    log = runs / second / '20260101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('{"mIoU": 99.0, "step": 2}')
    assert place.call('grid', path, '--halve', 2, '--dry-run') == 0
    out = capsys.readouterr().out
    assert f'left out by halving: {first} (mIoU' in out and f'{second} ' in out
    assert 'halved: 1 runs' in out
    assert place.call('grid', path, '--until', 3) == 1
    assert 'has no validation after step 3' in capsys.readouterr().err


def test_a_leaf_that_is_missing_or_broken_is_its_runs_problem(place):
    for name, text in (('good', 'train_cfg = dict(max_iters=4)'), ('broken', 'train_cfg = dict(')):
        (place.root / f'{name}_leaf.py').write_text(text)
    path = place.root / 'leaves.py'
    path.write_text(
        "leaf = '{method}_leaf.py'\nmethods = ['good', 'broken', 'missing']\nrates = [1e-3]\n"
        "seeds = [0, 1]\nmetric = 'mIoU'\n"
    )
    runs, _ = grid.read(path)
    problems = {run.name: run.problem for run in runs}
    assert [name for name, problem in problems.items() if not problem] == [
        'good_lr0.001_seed0', 'good_lr0.001_seed1'
    ]  # fmt: skip
    assert 'SyntaxError' in problems['broken_lr0.001_seed1']
    assert 'needs' in problems['missing_lr0.001_seed0']


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


# A disk that is full when a checkpoint is to be written, for real as far as the system tells.
FULL_DISK = """
import os
from pathlib import Path

real = Path.write_bytes


def write_bytes(path, data):
    full = 'sigma' in str(path) and '/.iter_4.pth.' in str(path) and 'MMSIGMA_FULL' in os.environ
    return real(Path('/dev/full') if full else path, data)


Path.write_bytes = write_bytes
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs /dev/full')
def test_a_full_disk_ends_one_run_with_its_files_whole(place, write_grid):
    (place.root / 'full_disk.py').write_text(FULL_DISK)
    sigma = "sigma={'custom_imports': dict(imports=['full_disk'])}"
    path = write_grid('full', iters=6, replace=[('sigma={}', sigma)])
    env = {'PYTHONPATH': str(place.root)}
    done = place.spawn('grid', path, MMSIGMA_FULL='1', **env)
    assert done.returncode == 1, done.stdout + done.stderr
    assert '1 of 2 runs failed:\n  sigma_lr0.001_seed0: ended with the disk full' in done.stderr
    assert names(place.root / 'results/full') == ['frozen_lr0.001_seed0']
    run = place.root / 'work_dirs/full/sigma_lr0.001_seed0'
    assert (run / 'output.txt').read_text().count('error: No space left on device') == 1
    assert sorted(p.name for p in run.glob('iter_*')) == ['iter_2.pth']
    assert load(run / 'iter_2.pth')['meta']['iter'] == 2
    assert (run / 'last_checkpoint').read_text().endswith('iter_2.pth')
    assert not list(run.glob('.*.pth.*'))

    # With space again it goes on from there.
    done = place.spawn('grid', path, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(logged(run, last_run=True)) == [3, 4, 5, 6]
    assert names(place.root / 'results/full') == ['frozen_lr0.001_seed0', 'sigma_lr0.001_seed0']


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


@pytest.mark.slow
@pytest.mark.parametrize(
    'path', sorted((ROOT / 'configs/grids').glob('*.py')), ids=lambda p: p.stem
)
def test_every_grid_reads(path):
    runs, _ = grid.read(path)
    assert not any(run.problem for run in runs)
    assert len({run.hash for run in runs}) == len(runs)
