"""Runs as processes, without any training: what fails, what is tried again, what is told."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from mmengine.config import Config

from mmsigma.engine import environment
from mmsigma.errors import InvalidSettingError
from mmsigma.experiments import devices, grid, jobs, live, logs, records, schedule, slurm


def run(name='a', **config):
    return grid.Run(name, 1e-3, 0, Config({'train_cfg': {'max_iters': 4}, **config}))


def job(tmp_path, code, one=None, **environment):
    one = one or run()
    return jobs.Job(one, tmp_path / one.name, lambda: [sys.executable, '-c', code], environment)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(jobs, '_TICK', 0.01)
    monkeypatch.setattr(schedule, '_LOOK', 0.05)


@contextmanager
def begun(one):
    """A job whose process runs, in a thread; its status comes with the future."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(one.train)
        while not (one.work_dir / 'ready').exists() and not future.done():
            time.sleep(0.01)
        yield future


# --- One run ---------------------------------------------------------------------------------

FAIL = "import sys; print('\\nerror: {}', file=sys.stderr); sys.exit({})"


@pytest.mark.parametrize(
    ('status', 'tries', 'said'),
    [
        (0, 1, None),
        (1, 2, 'failed with exit status 1: what is wrong'),
        (3, 1, 'ended in NaN: what is wrong'),
        (74, 1, 'ended with the disk full: what is wrong'),
        (75, 1, 'was stopped; it goes on where it was: what is wrong'),
    ],
)
def test_what_may_be_luck_is_tried_again_once(tmp_path, status, tries, said):
    one = job(tmp_path, FAIL.format('what is wrong', status))
    assert one.train() == status
    assert one.tries == tries
    assert f'{one.wall:.1f}' == (one.work_dir / 'wall_seconds').read_text()
    assert status == 0 or one.problem(status) == said


def test_torchrun_exits_with_1_whatever_the_training_said(tmp_path):
    text = "print('  exitcode  : 3 (pid: 7)'); raise SystemExit(1)"
    one = job(tmp_path, text)
    assert one.train() == 1 and one.tries == 1
    assert one.problem(1).startswith('ended in NaN')


def test_a_crash_that_does_not_come_again_is_none(tmp_path):
    one = job(
        tmp_path, "import os; os.path.exists('x') or (open('x', 'w'), os.kill(os.getpid(), 9))"
    )
    one.command = lambda: ['sh', '-c', f'cd {tmp_path}; test -e x || {{ touch x; kill -9 $$; }}']
    assert one.train() == 0 and one.tries == 2


def waits(one):
    """Let a job say that it is there, and wait."""
    path = str(one.work_dir / 'ready')
    one.command = lambda: [
        sys.executable,
        '-c',
        f'open({path!r}, "w"); import time; time.sleep(60)',
    ]
    return one


def test_a_run_that_was_asked_to_stop_is_not_tried_again(tmp_path):
    one = waits(job(tmp_path, ''))
    with begun(one) as status:
        one.stop(signal.SIGTERM)
        assert status.result(30) == -signal.SIGTERM and one.tries == 1
    again = job(tmp_path, '')
    again.stop()
    assert again.train() is None and again.tries == 0


def test_two_processes_do_not_train_one_run(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, '_LOCK_SECONDS', 0.2)
    first = waits(job(tmp_path, ''))
    with begun(first) as status:
        second = job(tmp_path, '')
        with pytest.raises(InvalidSettingError, match='another process is at this run'):
            second.train()
        assert second.tries == 0
        first.stop(signal.SIGKILL)
        status.result(30)
    assert job(tmp_path, '').train() == 0


def test_a_lock_is_the_processes_too(tmp_path, monkeypatch):
    """It holds when the grid is gone."""
    monkeypatch.setattr(jobs, '_LOCK_SECONDS', 0.2)
    one = job(tmp_path, '')
    one.work_dir.mkdir()
    with (one.work_dir / 'lock').open('a') as lock:
        one._take(lock)
        words = [sys.executable, '-c', 'import time; time.sleep(60)']
        process = subprocess.Popen(words, pass_fds=[lock.fileno()])
    try:
        with pytest.raises(InvalidSettingError, match='another process is at this run'):
            one.train()
    finally:
        process.kill()
        process.wait()


def test_a_part_of_another_run_is_not_gone_on_with(tmp_path):
    one = job(tmp_path, '')
    assert one.train() == 0
    other = job(tmp_path, '', run(model='another'))
    with pytest.raises(InvalidSettingError, match='a part of a run of another config'):
        other.train()


def test_a_run_notes_the_commits_of_its_starts(tmp_path, monkeypatch):
    names = iter(['abc1234', 'abc1234', 'def5678+'])
    monkeypatch.setattr(records, 'commit', lambda: next(names))
    assert job(tmp_path, FAIL.format('', 1)).train() == 1  # two tries
    assert records.marked(tmp_path / run().name, 'commits') == ['abc1234']
    assert job(tmp_path, '').train() == 0
    assert records.marked(tmp_path / run().name, 'commits') == ['abc1234', 'def5678+']


def test_a_commit_says_whether_files_differ_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, '__file__', str(tmp_path / 'file.py'))
    monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
    assert environment.commit() is None
    (tmp_path / 'file.py').write_text('a = 1')
    git = ['git', '-c', 'user.name=a', '-c', 'user.email=a@b']
    for words in (['init', '-q'], ['add', 'file.py'], ['commit', '-qm', 'x', '--no-verify']):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    clean = environment.commit()
    assert re.fullmatch('[0-9a-f]{7,}', clean)
    (tmp_path / 'file.py').write_text('a = 2')
    assert environment.commit() == f'{clean}+'


# --- Many runs -------------------------------------------------------------------------------


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A schedule of runs of some code, by name, and the runs; records say what they are of."""

    def make(job, *_):
        if job.run.method == 'full':
            raise OSError(errno.ENOSPC, 'No space left on device')
        return {'last': {'step': 4, 'mIoU': 41.5}, 'wall_seconds': 2.0}

    def build(codes, **settings):
        runs = [run(name) for name in codes]
        found = schedule.Schedule(
            tmp_path / 'records',
            tmp_path,
            'mIoU',
            {name: {} for name in codes},
            lambda one, place: [sys.executable, '-c', codes[one.method]],
            live.Board('grid', len(runs)),
            **settings,
        )
        return found, runs

    monkeypatch.setattr(records, 'make', make)
    return build


def test_the_others_go_on_when_one_fails(plan, capsys):
    codes = {'nan': FAIL.format('NaN', 3), 'full': '', 'crash': FAIL.format('crash', 1), 'good': ''}
    made, runs = plan(codes)
    made.run(runs)
    failed = {name.partition('_')[0]: text for name, text in made.failed.items()}
    assert 'No space left on device' in failed.pop('full')
    assert failed == {'nan': 'ended in NaN: NaN', 'crash': 'failed with exit status 1: crash'}
    assert list(made.states.values()) == ['failed', 'failed', 'failed', 'finished']
    said = '[4/4] good_lr0.001_seed0: validation mIoU 41.5; 2 s'
    assert said in capsys.readouterr().out
    assert [path.stem for path in made.folder.iterdir()] == ['good_lr0.001_seed0']


def test_runs_go_to_every_slot_and_never_two_to_one(tmp_path, plan):
    code = """
import os, time
name = os.environ['CUDA_VISIBLE_DEVICES']
os.mkdir(name)  # fails if there is one at it already
time.sleep(0.5)
os.rmdir(name)
open(name + '.used', 'a').write('x')
"""
    slots = [{'CUDA_VISIBLE_DEVICES': str(tmp_path / device)} for device in '01']
    made, runs = plan({f'r{i}': code for i in range(6)}, slots=slots)
    made.run(runs)
    assert made.failed == {}
    used = {path.stem: len(path.read_text()) for path in tmp_path.glob('*.used')}
    assert used.keys() == {'0', '1'} and sum(used.values()) == 6


def test_a_signal_stops_all_and_begins_none(tmp_path, plan, capsys):
    code = f'import os, signal, time; os.kill({os.getpid()}, signal.SIGUSR1); time.sleep(60)'
    before = signal.getsignal(signal.SIGUSR1)
    made, runs = plan({'first': code, 'second': ''})
    made.run(runs)
    assert made.failed == {} and made.asked == ['SIGUSR1']
    assert made.states == {runs[0].name: 'open'}
    assert 'SIGUSR1: 1 runs stop after their step.' in capsys.readouterr().out
    assert not (tmp_path / runs[1].name).exists()
    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_second_interrupt_waits_for_nothing(plan):
    code = f"""
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(2):
    os.kill({os.getpid()}, signal.SIGINT)
    time.sleep(0.3)
time.sleep(60)
"""
    made, runs = plan({'first': code, 'second': ''})
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        made.run(runs)
    assert time.monotonic() - began < 50


def test_a_run_that_is_far_enough_stops_and_stays_open(tmp_path, plan):
    code = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
folder = os.path.join({!r}, 'first_lr0.001_seed0', '20260101_000000', 'vis_data')
os.makedirs(folder)
open(os.path.join(folder, 'scalars.json'), 'w').write('{{"mIoU": 5.0, "step": 2}}')
time.sleep(60)
"""
    made, runs = plan({'first': code.format(str(tmp_path)), 'second': ''}, until=2)
    began = time.monotonic()
    made.run(runs)
    assert time.monotonic() - began < 50 and made.failed == {}
    assert list(made.states.values()) == ['open', 'finished']


def test_slots_are_devices_or_shares_of_the_cores(monkeypatch):
    assert devices.read(None, 'none') == []
    both = [{'CUDA_VISIBLE_DEVICES': '0'}, {'CUDA_VISIBLE_DEVICES': '1'}]
    assert devices.slots(['0', '1'], 2, 1) == [*both, *both]
    assert devices.slots(['0,1'], 1, 2) == [{'CUDA_VISIBLE_DEVICES': '0,1'}]
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(8)), raising=False)
    assert devices.slots([], 2, 1) == [{'OMP_NUM_THREADS': '4'}] * 2
    assert devices.slots([], 1, 1) == [{}]


# --- What is told ----------------------------------------------------------------------------


def write_log(folder, *lines):
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(lines))


def test_progress_of_a_run_that_was_begun_twice(tmp_path):
    assert logs.progress(tmp_path / 'none', 'mIoU') == logs.Progress()
    write_log(
        tmp_path / '20260101_000000/vis_data',
        '{"loss": 1.0, "step": 10, "time": 9}', '{"mIoU": 30.5, "step": 10}',
        '{"loss": 1.0, "step": 20, "time": 9}',
    )  # fmt: skip
    assert logs.progress(tmp_path, 'mIoU') == logs.Progress(20, 10, 30.5)
    write_log(
        tmp_path / '20260101_000001/vis_data', '{"loss": 1.0, "step": 30, "time": 2}', '{"los'
    )
    assert logs.progress(tmp_path, 'mIoU') == logs.Progress(30, 10, 30.5)


def test_no_terminal_gets_lines(capsys):
    with live.Board('grid', 3, 1) as board:
        board.show(run(), logs.Progress(2))
        board.end(run(), 'done [sic]', True)
    assert capsys.readouterr().out.strip() == '[2/3] a_lr0.001_seed0: done [sic]'


def test_a_terminal_gets_bars_while_runs_go_on():
    """The very code that draws, in a terminal of its own."""
    pty = pytest.importorskip('pty')
    code = """
import time
from mmengine.config import Config
from mmsigma.experiments import grid, live, logs
run = grid.Run('the_[run]', 1e-3, 0, Config({'train_cfg': {'max_iters': 7}}))
with live.Board('the grid', 2) as board:
    board.show(run, logs.Progress(3, 2, 12.5), 'GPU 5')
    time.sleep(0.5)
    board.end(run, '[a line]', True)
"""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, '-c', code], stdout=slave, env={**os.environ, 'TERM': 'xterm',
        'COLUMNS': '100', 'LINES': '30'},
    )  # fmt: skip
    os.close(slave)
    text = b''
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        text += part
    assert process.wait() == 0
    plain = re.sub(rb'\x1b\[[0-9;?]*[a-zA-Z]', b'', text)
    for words in (b'the grid', b'the_[run]_lr0.001', b'3/7', b'12.5 GPU 5', b'[a line]', b'1/2'):
        assert words in plain


def test_a_slurm_task_runs_the_run_of_its_number(tmp_path, monkeypatch):
    folder = tmp_path / 'a folder'
    folder.mkdir()
    monkeypatch.chdir(folder)
    options = ['--gpus-per-node=2', '--array=0-1%5', '--partition=gpu']
    words = ['printf', '%s|', '--x', 'y z']
    text = slurm.script('mine', ['a_seed0', 'b_seed0'], words, 'logs', options)
    path = tmp_path / 'array.sh'
    path.write_text(text)
    for line in (*options, '--array=0-1', '--requeue', '--job-name=mine'):
        assert f'#SBATCH {line}\n' in text
    env = {**os.environ, 'SLURM_ARRAY_TASK_ID': '1'}
    done = subprocess.run(['bash', path], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == '--x|y z|--run|b_seed0|'
