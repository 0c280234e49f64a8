"""A test that leaves a process, a lock or a file outside of its temporary folder fails the run.

Processes carry a mark in their environment, which what they start inherits. Each worker of
pytest-xdist has a folder of its own for what :mod:`tempfile` makes. They are looked at behind the
last test of each file, since fixtures of a module may last so long.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.util import Finalize
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]
MARK = 'MMSIGMA_TESTS'
# Of the server that forks, PyTorch's compiler and launcher, ONNX Runtime, pytest, tests/tiny.py.
_LASTING = ('pymp-', 'torchinductor', 'torchelastic_', '.ses', 'pytest-of-', 'mmsigma-tests-')
_SERVERS = ('multiprocessing.forkserver', 'multiprocessing.resource_tracker')


def begin() -> None:
    """Mark this process's children, and give it a folder for temporary files."""
    usual = tempfile.gettempdir()
    os.environ.setdefault('PYTEST_DEBUG_TEMPROOT', usual)  # where pytest keeps its last three runs
    os.environ.setdefault('TORCHINDUCTOR_CACHE_DIR', f'{usual}/torchinductor_mmsigma')
    os.environ[MARK] = str(os.getpid())
    folder = tempfile.mkdtemp(prefix='mmsigma-run-', dir=usual)
    os.environ['TMPDIR'] = tempfile.tempdir = folder
    # Behind what multiprocessing removes itself, which has -100.
    Finalize(None, shutil.rmtree, [folder], {'ignore_errors': True}, exitpriority=-200)


def processes() -> list[str]:
    """Processes that this one has started, directly or not, and that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if process.pid == os.getpid() or process.environ().get(MARK) != str(os.getpid()):
                continue
            # What the server forks has its command line, but not its parent, orphans neither.
            server = _is_server(words) and process.ppid() == os.getpid()
            if process.status() != psutil.STATUS_ZOMBIE and not server:
                found.append(f'process {process.pid}: {" ".join(words)[:200]}')
        except psutil.Error:  # it has ended meanwhile
            continue
    return found


def _is_server(words: list[str]) -> bool:
    """Whether this is the server's command line, which what it forks has, too."""
    return any(name in ' '.join(words) for name in _SERVERS)


def locks() -> list[str]:
    """Files that this process has locked by ``flock``, as the library does."""
    path = Path('/proc/locks')
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    mine = [words for words in lines if words[1:2] == ['FLOCK'] and str(os.getpid()) in words[4:5]]
    return [f'lock: {" ".join(words)}' for words in mine]


def temporary() -> list[str]:
    """What lies in this process's folder for temporary files."""
    folder = Path(tempfile.gettempdir())
    left = [path for path in folder.iterdir() if not path.name.startswith(_LASTING)]
    return [f'temporary file: {path}' for path in left]


def checkout() -> set[str]:
    """Files in the checkout that git does not track, ignored ones included, without caches."""
    try:
        done = subprocess.run(
            ['git', 'status', '--porcelain', '--ignored', '--untracked-files=all'],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:  # no git
        return set()
    caches = ('__pycache__', '.pytest_cache', '.venv', '.egg-info', '.coverage', '_cache/')
    lines = {line for line in done.stdout.splitlines() if line.startswith(('??', '!!'))}
    return {line for line in lines if not any(cache in line for cache in caches)}


@pytest.fixture(autouse=True, scope='module')
def nothing_is_left() -> Iterator[None]:
    """Fail what leaves something behind."""
    yield
    deadline = time.monotonic() + 10  # workers of a killed loader look for it every five seconds
    while processes() and time.monotonic() < deadline:
        time.sleep(0.2)
    left = [*processes(), *locks(), *temporary()]
    assert not left, 'left behind:\n' + '\n'.join(left)
