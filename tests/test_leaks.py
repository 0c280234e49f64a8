"""What a test leaves behind is seen: a process, also of a forked one, a lock, a file."""

import fcntl
import os
import subprocess
import tempfile
import time
from pathlib import Path

from tests import leaks
from tests.processes import Process

PARENT = """
import subprocess
subprocess.Popen(['sleep', '60'], start_new_session=True)
"""


def test_processes() -> None:
    left = subprocess.Popen(['sleep', '60'])
    try:
        assert f'process {left.pid}: sleep 60' in leaks.processes()
    finally:
        left.kill()
        left.wait()
    assert not leaks.processes()


def test_orphans(tmp_path: Path) -> None:
    """A process whose parent, forked from the server, has ended."""
    (tmp_path / 'parent.py').write_text(PARENT)
    words = [tmp_path / 'parent.py']
    assert Process(words, tmp_path, dict(os.environ), tmp_path / 'said.txt').wait() == 0
    (found,) = leaks.processes()
    subprocess.run(['kill', found.split()[1].rstrip(':')], check=True)
    while leaks.processes():
        time.sleep(0.05)


def test_locks(tmp_path: Path) -> None:
    with (tmp_path / 'lock').open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert len(leaks.locks()) == 1
    assert not leaks.locks()


def test_temporary_files() -> None:
    handle, name = tempfile.mkstemp()
    os.close(handle)
    assert leaks.temporary() == [f'temporary file: {name}']
    os.unlink(name)
    assert not leaks.temporary()


def test_files_in_the_checkout() -> None:
    before, path = leaks.checkout(), leaks.ROOT / 'left_by_a_test.txt'
    path.touch()
    try:
        assert leaks.checkout() - before == {f'?? {path.name}'}
    finally:
        path.unlink()
