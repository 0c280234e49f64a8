"""Processes of tests, forked from one that has imported the frameworks.

A start of Python with torch, mmengine and mmseg takes ten seconds of a processor; a fork takes a
tenth of one. :class:`Process` runs a script as ``python script.py ...`` would, with a process
number, an exit status and signals of its own. What a grid starts is forked from the grid.
"""

import gc
import importlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any
from unittest.mock import patch

from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer

from mmsigma.engine import deferred

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 900  # seconds; a machine that does much else takes its time

# What the server imports, and so none of its children.
PRELOAD = (
    'mmengine.runner',
    'mmsigma.experiments.grid',
    'mmsigma.experiments.plots',
    'mmsigma.models.adapted_backbone',
    'mmsigma.datasets.check',
    'mmsigma.engine.distributed.checks',
    'mmsigma.engine.distributed.runner',
    'mmsigma.config.recipe',
    'mmseg.models',
    'mmseg.datasets',
    'mmseg.evaluation',
    'mmseg.visualization',
)
_CONTEXT = multiprocessing.get_context('forkserver')
_CONTEXT.set_forkserver_preload(['tests.preloaded'])


@contextmanager
def quick() -> Iterator[None]:
    """Without what takes most of a short run and changes nothing of it."""
    with ExitStack() as stack:
        for target, substitute in (
            ('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True)),
            ('mmengine.runner.runner.collect_env', dict),
            ('mmengine._strategy.base.collect_env', dict),
            ('os.fsync', lambda file: None),
        ):
            stack.enter_context(patch(target, substitute))
        gc.freeze()  # MMEngine collects garbage between steps
        yield


def forget_runs() -> None:
    """Let the next run in this process be its first: MMEngine keeps loggers by name."""
    for shared in (*Visualizer.__subclasses__(), Visualizer, MessageHub, MMLogger):
        shared._instance_dict.clear()


class Process:
    """A command line in a process of its own.

    Args:
        words: A Python script and its arguments.
        folder: The process's working directory.
        environment: All of its variables.
        output: The file that gets what it prints.
        errors: The same of its standard error; None for ``output``.
        session: Whether it leads a session, and so a group of processes, of its own.
    """

    def __init__(
        self,
        words: Sequence[object],
        folder: Path,
        environment: Mapping[str, str],
        output: Path,
        errors: Path | None = None,
        session: bool = False,
    ) -> None:
        self._output, self._errors = output, errors
        given = [str(word) for word in words]
        self._process = _CONTEXT.Process(
            target=_become, args=(given, folder, dict(environment), output, errors, session)
        )
        self._process.start()
        self.pid: int = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        """The exit status, the negative number of the signal that ended it, or None."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """See :attr:`returncode`."""
        return self._process.exitcode

    def wait(self, timeout: float = TIMEOUT) -> int:
        """The exit status, when there is one.

        Raises:
            subprocess.TimeoutExpired: There is none after so many seconds.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout)
        return self._process.exitcode

    def finish(self, timeout: float = TIMEOUT) -> subprocess.CompletedProcess:
        """Wait for it, and end it where that takes too long; status, output and errors."""
        try:
            status = self.wait(timeout)
        finally:
            self.kill()
        said = (path.read_text() if path else '' for path in (self._output, self._errors))
        return subprocess.CompletedProcess([], status, *said)

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, if it still runs."""
        self.send_signal(signal.SIGKILL)
        self._process.join()


class Fork:
    """What a grid uses of ``subprocess.Popen``, as a fork of the grid itself."""

    def __init__(
        self,
        words: Sequence[str],
        stdout: IO[bytes],
        env: Mapping[str, str],
        pass_fds: Sequence[int] = (),
        stderr: int = subprocess.STDOUT,
    ) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        status = 1
        try:
            for number in (signal.SIGTERM, signal.SIGUSR1):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.dup2(stdout.fileno(), 1)
            os.dup2(stdout.fileno(), 2)
            _close_all_but(pass_fds)
            status = _status(lambda: _run(words[1:], env))
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)


def _close_all_but(kept: Sequence[int]) -> None:
    """Close what ``exec`` would: a lock of another run that stays open would stay taken."""
    for name in os.listdir('/dev/fd'):
        if int(name) > 2 and int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:  # that of the listing itself
                continue


def _status(work: Callable[[], None]) -> int:
    """The exit status of a program."""
    try:
        work()
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _become(
    words: list[str],
    folder: Path,
    environment: dict[str, str],
    output: Path,
    errors: Path | None,
    session: bool,
) -> None:
    """Be the process of a command line; see :class:`Process`."""
    if session:
        os.setsid()
    os.chdir(folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    os.dup2(os.open(output, flags), 1)
    os.dup2(os.open(errors, flags) if errors else 1, 2)
    # A pipe or a file is written in blocks, a terminal in lines: tests read while it runs.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    ours = SimpleNamespace(Popen=_popen, STDOUT=subprocess.STDOUT)
    with patch('mmsigma.experiments.jobs.subprocess', ours):
        sys.exit(_status(lambda: _run(words, environment)))


def _popen(words: Sequence[str], **options: Any) -> Fork | subprocess.Popen:
    """A fork where Python is to run a script, a start of Python where it is to run a module."""
    return (Fork if words[1].endswith('.py') else subprocess.Popen)(words, **options)


def _run(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a script as ``python script.py ...`` does, with these variables."""
    os.environ.clear()
    os.environ.update(environment)
    paths = environment.get('PYTHONPATH', '').split(os.pathsep)
    sys.path[:0] = [str(Path(words[0]).parent), *filter(None, paths)]
    sys.argv = list(words)
    forget_runs()
    with quick():
        runpy.run_path(words[0], run_name='__main__')


def preload() -> None:
    """Import what the children use, as the launcher does."""
    deferred.install()
    for name in PRELOAD:
        importlib.import_module(name)
