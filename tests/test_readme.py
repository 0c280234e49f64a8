"""Every command in the README runs, shortened by options that it accepts itself."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, TIMEOUT, Process
from tests.shared import DATA, DINOV2, need

README = (ROOT / 'README.md').read_text(encoding='utf-8')

# A few steps on a few images, with one thread beside the other tests.
SHORT = [
    'train_cfg.max_iters=3',
    'train_cfg.val_interval=3',
    'param_scheduler.1.end=200',
    'train_dataloader.batch_size=1',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'default_hooks.checkpoint.interval=3',
    'val_dataloader.dataset.indices=2',
    'test_dataloader.dataset.indices=2',
]


def commands() -> list[str]:
    """Lines of the README's bash blocks."""
    blocks = re.findall(r'```bash\n(.*?)```', README, re.DOTALL)
    lines = [line.split('  #')[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith('#')]


def run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess:
    result = subprocess.run(
        arguments,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert result.returncode == 0, f'{arguments}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}'
    return result


def test_every_command_is_known() -> None:
    known = ('make ', 'python tools/', 'bash tools/dist_train.sh', 'git clone', 'cd ')
    assert [c for c in commands() if not c.startswith(known)] == []


@pytest.mark.parametrize('command', [c for c in commands() if c.startswith('make ')])
def test_make_targets_exist(command: str) -> None:
    # `make test` is what runs this; make demo runs below, make bench in its own test.
    run(['make', '--dry-run', *shlex.split(command)[1:]])


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    result = run(
        [sys.executable, 'tools/demo.py', '--steps', '3', '--out', str(tmp_path)],
        PYTHONPATH=f'{ROOT}/tools/dataset_converters:{ROOT}/tools/model_converters',
    )
    assert 'SIGMA is' in result.stdout and (tmp_path / 'demo.png').stat().st_size > 10_000


def test_tools_in_order(tmp_path: Path) -> None:
    """Train, resume, test and count, as the README says, in a work dir of the test's own."""
    need(DATA / 'camvid', DINOV2)
    lines = [c for c in commands() if c.startswith('python tools/')]
    assert {line.split()[1] for line in lines} >= {
        'tools/train.py',
        'tools/test.py',
        'tools/params.py',
        'tools/grid.py',
        'tools/table.py',
    }
    for number, line in enumerate(lines):
        words = [w.replace('work_dirs', str(tmp_path)) for w in shlex.split(line)]
        script = words[1]
        if script == 'tools/analysis_tools/benchmark.py':
            continue  # tests/tools/test_benchmark.py runs it
        if script == 'tools/train.py' and '--work-dir' not in words:
            words += ['--work-dir', str(tmp_path / Path(words[2]).stem)]
        if script in ('tools/train.py', 'tools/test.py'):
            options = words.index('--cfg-options') + 1 if '--cfg-options' in words else None
            if options is None:
                words += ['--cfg-options', *SHORT]
            else:
                words[options:options] = SHORT
        if script == 'tools/test.py':
            pattern = Path(words[3])
            found = sorted(pattern.parent.glob(pattern.name))
            assert found, f'{pattern} names no checkpoint'
            words[3] = str(found[0])
            words += ['--work-dir', str(tmp_path / 'test')]
        output = tmp_path / f'{number}.txt'
        done = Process([ROOT / script, *words[2:]], ROOT, dict(os.environ), output).finish()
        assert done.returncode == 0, f'{line}\n{done.stdout[-3000:]}'


@pytest.mark.slow
def test_distributed_launch(tmp_path: Path) -> None:
    """The torchrun line, with two processes on CPUs."""
    need(DATA / 'camvid', DINOV2)
    line = next(c for c in commands() if c.startswith('bash tools/dist_train.sh'))
    words = shlex.split(line)
    run(
        [
            *[*words[:3], '2', '--work-dir', str(tmp_path), '--cfg-options'],
            *SHORT,
        ],
        PYTHON=sys.executable,
        PATH=f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
    )
    assert (tmp_path / 'last_checkpoint').is_file()
