"""One fault in a copy of the checkout, and the process that runs tests there."""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.table import PACKAGE, ROOT, Fault

WHERE = f'import importlib.util as u; print(u.find_spec({PACKAGE!r}).origin)'
OPTIONS = ('-q', '-p', 'no:cacheprovider', '-p', 'no:xdist', '-c', 'pyproject.toml')


class Failures:
    """A plugin of pytest that notes which tests failed, and which files could not be read."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and report.nodeid not in self.found:
            self.found.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.found.append(report.nodeid)


def copy_checkout(tests: Path, tree: Path) -> None:
    """Copy this checkout with the folder ``tests``, which may be another one's.

    Tests look for configs and tools beside themselves, so links would lead them back here.
    """
    command = ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard']
    for checkout, own in ((ROOT, False), (tests.parent, True)):
        listed = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
        for name in listed.stdout.split('\0'):
            if name.startswith('tests/') == own and (checkout / name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(checkout / name, tree / name)


class Job:
    """Runs tests in a copy of its own until one of them fails.

    Attributes:
        found: The first test that failed.
        failed: All that did.
        note: Why nothing can be said.
        seconds: It took so far.
    """

    def __init__(self, fault: Fault | None, folder: Path, tests: Path, seconds: int) -> None:
        self.fault = fault
        self.limit = seconds
        self.found: str | None = None
        self.failed: list[str] = []
        self.note = ''
        self.tree = Path(tempfile.mkdtemp(dir=folder))
        copy_checkout(tests, self.tree)
        if fault is not None:
            fault.put_into(self.tree)
        self._stages: list[list[str]] = []
        self._begin = self._deadline = time.monotonic()
        self._process = 0

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._begin, 1)

    def start(self, *stages: Sequence[str]) -> None:
        """Begin.

        Args:
            stages: Arguments of pytest, of one run after the other.
        """
        self._stages = [list(stage) for stage in stages]
        self._next()

    def ended(self) -> bool:
        """Whether all is done."""
        if not self._process:
            return True
        late = time.monotonic() > self._deadline
        if not late and not os.waitpid(self._process, os.WNOHANG)[0]:
            return False
        self.stop(wait=late)
        report = self.tree / 'failed.json'
        if late or not report.exists():
            self.note = f'not done in {self.limit} s' if late else f'it ended: {self._last_line()}'
            return True
        self.failed = json.loads(report.read_text())
        if not self.failed:
            return not self._next()
        self.found = self.failed[0]
        return True

    def stop(self, wait: bool = True) -> None:
        """End the process and what its tests left behind."""
        process, self._process = self._process, 0
        if process:
            with suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
            if wait:
                os.waitpid(process, 0)

    def _next(self) -> bool:
        """Begin the next run of pytest; False where there is none."""
        if not self._stages:
            return False
        (self.tree / 'failed.json').unlink(missing_ok=True)
        self._deadline = time.monotonic() + self.limit
        arguments = self._stages.pop(0)
        self._process = os.fork()
        if self._process == 0:
            try:
                _run(self.tree, arguments)
            finally:  # not what the parent would do next
                os._exit(1)
        return True

    def _last_line(self) -> str:
        log = self.tree / 'output.txt'
        lines = log.read_text(errors='replace').split('\n') if log.exists() else []
        return next((line for line in reversed(lines) if line.strip()), 'without a word')[:200]


def _run(tree: Path, arguments: Sequence[str]) -> None:
    """Run pytest in a copy, with the copy's library, and write down what failed."""
    os.setsid()  # so that all that the tests start can be ended with them
    log = os.open(tree / 'output.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(tree)
    for name in [name for name in sys.modules if name.partition('.')[0] == 'tests']:
        del sys.modules[name]
    sys.path[0] = os.environ['PYTHONPATH'] = str(tree)
    # In this process and in those that tests start, wherever they do.
    told = subprocess.run([sys.executable, '-c', WHERE], cwd='/', capture_output=True, text=True)
    here = importlib.import_module(PACKAGE).__file__
    assert told.stdout.strip() == here == str(tree / PACKAGE / '__init__.py'), (told, here)
    failures = Failures()
    status = pytest.main([*OPTIONS, *arguments], plugins=[failures])
    # Interrupted, an error inside or of usage; 5 is that no test was chosen.
    assert failures.found or status in (0, 5), status
    (tree / 'failed.json').write_text(json.dumps(failures.found))
    sys.stdout.flush()
    os._exit(0)
