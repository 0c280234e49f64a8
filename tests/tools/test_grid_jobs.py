"""Runs as processes, without any training: what fails, what is tried again, what is told."""

import errno
import io
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from mmengine.config import Config

from mmsigma.errors import InvalidSettingError
from mmsigma.experiments import grid, jobs, live, progress, records, slurm
from mmsigma.experiments.schedule import Schedule


def run(name='a', **config):
    return grid.Run(name, 1e-3, 0, Config({'train_cfg': {'max_iters': 4}, **config}))


def job(tmp_path, code, one=None, **environment):
    one = one or run()
    return jobs.Job(one, tmp_path / one.name, lambda: [sys.executable, '-c', code], environment)


def finish(one, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = one.poll()
        if status is not None:
            return status
        time.sleep(0.01)
    raise AssertionError('does not end')


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
    assert finish(one) == status
    assert one.tries == tries
    assert f'{one.wall:.1f}' == (one.work_dir / 'wall_seconds').read_text()
    assert status == 0 or one.problem(status) == said


def test_torchrun_exits_with_1_whatever_the_training_said(tmp_path):
    text = "print('  exitcode  : 3 (pid: 7)'); raise SystemExit(1)"
    one = job(tmp_path, text)
    assert finish(one) == 1 and one.tries == 1
    assert one.problem(1).startswith('ended in NaN')


def test_a_crash_that_does_not_come_again_is_none(tmp_path):
    one = job(
        tmp_path, "import os; os.path.exists('x') or (open('x', 'w'), os.kill(os.getpid(), 9))"
    )
    one.command = lambda: ['sh', '-c', f'cd {tmp_path}; test -e x || {{ touch x; kill -9 $$; }}']
    assert finish(one) == 0 and one.tries == 2


def test_a_run_that_was_asked_to_stop_is_not_tried_again(tmp_path):
    one = job(tmp_path, 'import time; time.sleep(60)')
    while one.tries == 0:
        one.poll()
    one.stop(signal.SIGTERM)
    assert finish(one) == -signal.SIGTERM and one.tries == 1


def test_two_processes_do_not_train_one_run(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, '_LOCK_SECONDS', 0.2)
    first = job(tmp_path, 'import time; time.sleep(60)')
    while first.tries == 0:
        first.poll()
    # The lock is the training's too: it holds when the grid is gone.
    first.close()
    second = job(tmp_path, '')
    with pytest.raises(InvalidSettingError, match='another process is at this run'):
        finish(second)
    assert second.tries == 0
    first.stop(signal.SIGKILL)
    finish(first)
    assert finish(job(tmp_path, '')) == 0


def test_a_part_of_another_run_is_not_gone_on_with(tmp_path):
    one = job(tmp_path, '')
    assert finish(one) == 0
    one.close()
    other = job(tmp_path, '', run(model='another'))
    with pytest.raises(InvalidSettingError, match='a part of a run of another config'):
        finish(other)


def test_a_run_notes_the_commits_of_its_starts(tmp_path, monkeypatch):
    names = iter(['abc1234', 'abc1234', 'def5678+'])
    monkeypatch.setattr(records, 'commit', lambda: next(names))
    assert finish(job(tmp_path, FAIL.format('', 1))) == 1  # two tries
    assert records.marked(tmp_path / run().name, 'commits') == ['abc1234']
    assert finish(job(tmp_path, '')) == 0
    assert records.marked(tmp_path / run().name, 'commits') == ['abc1234', 'def5678+']


def test_a_commit_says_whether_files_differ_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(records, '__file__', str(tmp_path / 'file.py'))
    monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
    assert records.commit() is None
    (tmp_path / 'file.py').write_text('a = 1')
    git = ['git', '-c', 'user.name=a', '-c', 'user.email=a@b']
    for words in (['init', '-q'], ['add', 'file.py'], ['commit', '-qm', 'x', '--no-verify']):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    clean = records.commit()
    assert re.fullmatch('[0-9a-f]{7,}', clean)
    (tmp_path / 'file.py').write_text('a = 2')
    assert records.commit() == f'{clean}+'


# --- Many runs -------------------------------------------------------------------------------


def schedule(tmp_path, codes, slots=({},), finish=lambda job: 'well done', explain=str):
    """Outcome of runs of this code, by name, and the rows of the table."""
    runs = [run(name) for name in codes]
    rows = {one.name: live.Row(one.name, 4) for one in runs}
    board = live.Board('grid', 'mIoU', list(rows.values()))
    plan = Schedule(
        rows,
        board,
        slots,
        lambda one, slot: job(tmp_path, codes[one.method], one, **slot),
        finish,
        lambda job: progress.read(job.work_dir, 'mIoU', 4),
        explain,
    )
    return plan, runs, rows


def test_the_others_go_on_when_one_fails(tmp_path, capsys):
    def full(job):
        if job.run.method == 'full':
            raise OSError(errno.ENOSPC, 'No space left on device')
        return 'well done'

    codes = {'nan': FAIL.format('NaN', 3), 'full': '', 'crash': FAIL.format('crash', 1), 'good': ''}
    plan, runs, rows = schedule(tmp_path, codes, finish=full, explain=lambda e: f'oh: {e.strerror}')
    failed = plan.run(runs)
    assert {name.partition('_')[0]: text for name, text in failed.items()} == {
        'nan': 'ended in NaN: NaN',
        'full': 'oh: No space left on device',
        'crash': 'failed with exit status 1: crash',
    }
    assert [row.state for row in rows.values()] == ['failed', 'failed', 'failed', 'finished']
    assert '[4/4] good_lr0.001_seed0: well done' in capsys.readouterr().out


def test_runs_go_to_every_slot_and_never_two_to_one(tmp_path):
    code = """
import os, time
name = os.environ['CUDA_VISIBLE_DEVICES']
os.mkdir(name)  # fails if there is one at it already
time.sleep(0.5)
os.rmdir(name)
open(name + '.used', 'a').write('x')
"""
    slots = [{'CUDA_VISIBLE_DEVICES': str(tmp_path / device)} for device in '01']
    plan, runs, _ = schedule(tmp_path, {f'r{i}': code for i in range(6)}, slots)
    assert plan.run(runs) == {}
    used = {path.stem: len(path.read_text()) for path in tmp_path.glob('*.used')}
    assert used.keys() == {'0', '1'} and sum(used.values()) == 6


def test_a_signal_stops_all_and_begins_none(tmp_path):
    code = f'import os, signal, time; os.kill({os.getpid()}, signal.SIGUSR1); time.sleep(60)'
    before = signal.getsignal(signal.SIGUSR1)
    plan, runs, rows = schedule(tmp_path, {'first': code, 'second': ''})
    assert plan.run(runs) == {}
    assert plan.signals.asked == 'SIGUSR1'
    assert [row.state for row in rows.values()] == ['open', 'open']
    assert not (tmp_path / runs[1].name).exists()
    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_run_that_is_far_enough_stops_and_stays_open(tmp_path):
    code = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
folder = os.path.join({!r}, 'first_lr0.001_seed0', '20260101_000000', 'vis_data')
os.makedirs(folder)
open(os.path.join(folder, 'scalars.json'), 'w').write('{{"mIoU": 5.0, "step": 2}}')
time.sleep(60)
"""
    plan, runs, rows = schedule(tmp_path, {'first': code.format(str(tmp_path)), 'second': ''})
    plan.enough = lambda seen: seen.validated >= 2
    began = time.monotonic()
    assert plan.run(runs) == {}
    assert time.monotonic() - began < 50
    assert [row.state for row in rows.values()] == ['open', 'finished']


# --- What is told ----------------------------------------------------------------------------


def write_log(folder, *lines):
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(lines))


def test_progress_of_a_run_that_was_begun_twice(tmp_path):
    assert progress.read(tmp_path / 'none', 'mIoU', 100) == progress.Progress()
    write_log(
        tmp_path / '20260101_000000/vis_data',
        '{"loss": 1.0, "step": 10, "time": 9}', '{"mIoU": 30.5, "step": 10}',
        '{"loss": 1.0, "step": 20, "time": 9}',
    )  # fmt: skip
    assert progress.read(tmp_path, 'mIoU', 100) == progress.Progress(20, 30.5, 720, 10)
    write_log(
        tmp_path / '20260101_000001/vis_data', '{"loss": 1.0, "step": 30, "time": 2}', '{"los'
    )
    assert progress.read(tmp_path, 'mIoU', 100) == progress.Progress(30, 30.5, 140, 10)
    assert progress.read(tmp_path, 'mIoU', None).seconds_left is None


def test_a_terminal_shows_a_table_that_fits(monkeypatch):
    rich_console = pytest.importorskip('rich.console')
    rows = [live.Row(f'open{i}', 100) for i in range(50)]
    rows += [
        live.Row('now', 100, 'running', progress.Progress(40, 33.25, 3725.0), 'GPU 0'),
        live.Row('bad', 100, 'failed', note='ended in NaN [sic]'),
        live.Row('good', 100, 'finished', progress.Progress(100, 41.0, 0.0)),
    ]
    console = rich_console.Console(width=120, height=20, record=True, file=io.StringIO())
    console.print(live._table('grid', 'mIoU', rows, 20))
    text = console.export_text()
    assert len(text.splitlines()) <= 20
    assert '1 running, 1 failed, 1 finished, 50 open' in text
    (now,) = (line for line in text.splitlines() if ' now ' in line)
    assert all(cell in now for cell in ('running', '40/100', '33.25', '1:02:05', 'GPU 0'))
    assert 'ended in NaN [sic]' in text and text.index(' now ') < text.index(' bad ')


def test_no_terminal_gets_lines(capsys):
    with live.Board('grid', 'mIoU', [live.Row('a', 1)]) as board:
        board.show()
        board.say('a: done')
    assert capsys.readouterr().out == 'a: done\n'


def test_a_terminal_gets_the_table_while_runs_go_on(tmp_path):
    """The very code that draws, in a terminal of its own."""
    pytest.importorskip('rich')
    pty = pytest.importorskip('pty')
    code = """
from mmsigma.experiments import live, progress
row = live.Row('the_run', 7, 'running', progress.Progress(3, 12.5, 61))
with live.Board('the grid', 'mIoU', [row]) as board:
    board.show()
    board.say('[a line]')
    row.state = 'finished'
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
    for word in (b'the grid', b'the_run', b'3/7', b'12.5', b'0:01:01', b'[a line]', b'finished'):
        assert word in text


def test_a_slurm_task_runs_the_run_of_its_number(tmp_path):
    folder = tmp_path / 'a folder'
    folder.mkdir()
    text = slurm.slurm(
        'mine', ['a_seed0', 'b_seed0'], ['printf', '%s|', '--x', 'y z'], str(folder), 'logs', 2, 5,
        ['--partition=gpu'],
    )  # fmt: skip
    path = tmp_path / 'array.sh'
    path.write_text(text)
    for line in ('--array=0-1%5', '--gpus-per-node=2', '--partition=gpu', '--requeue'):
        assert f'#SBATCH {line}\n' in text
    env = {**os.environ, 'SLURM_ARRAY_TASK_ID': '1'}
    done = subprocess.run(['bash', path], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == '--x|y z|--run|b_seed0|'
