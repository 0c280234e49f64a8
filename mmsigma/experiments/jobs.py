"""One run of a grid as processes: started, watched, tried once more, stopped."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from mmsigma.checkpoint.atomic_write import write
from mmsigma.errors import DiskFullError, InvalidSettingError, NonFiniteLossError, StoppedError
from mmsigma.experiments import records
from mmsigma.experiments.grid import Run

# Elsewhere nothing keeps two grids from one run.
fcntl: Any = import_module('fcntl') if os.name == 'posix' else None

TRIES = 2
_TICK = 0.1
# Processes of a killed run may outlive it for some seconds: workers of its loaders look every five.
_LOCK_SECONDS = 20.0
_CLOCK_SECONDS = 30.0
# What a second try would end in again.
_FINAL = {
    NonFiniteLossError.status: 'ended in NaN',
    DiskFullError.status: 'ended with the disk full',
    StoppedError.status: 'was stopped; it goes on where it was',
}


@dataclass
class Job:
    """One run, in a folder of its own, where ``run.py`` is its config and ``output.txt`` its words.

    Attributes:
        run: What to train.
        work_dir: The folder.
        command: Gives the command line, anew for every start: whether it resumes depends.
        environment: Of the processes.
        tries: Starts so far.
        wall: Seconds that processes took, also in earlier starts of the grid.
        resident: Peak resident bytes of the training process, None where it is not known.
        asked: The signal that it was asked to stop by; None if it was not.
    """

    run: Run
    work_dir: Path
    command: Callable[[], Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    tries: int = 0
    wall: float = 0.0
    resident: int | None = None
    asked: int | None = None

    def train(self) -> int | None:
        """Train it to its end, with a second try where the first one failed by what may be luck.

        Returns:
            The exit status; None if it was asked to stop before it began.

        Raises:
            InvalidSettingError: Another process is at this run, or the folder holds a part of
                another one.
        """
        self.work_dir.mkdir(parents=True, exist_ok=True)
        status = None
        with (self.work_dir / 'lock').open('a') as lock:
            self._take(lock)
            while self.asked is None and self.tries < TRIES:
                status = self._try(lock)
                if not status or self._cause(status) in _FINAL:
                    break
        return status

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Let the run get a signal, from any thread; there is no further try."""
        self.asked = number

    def problem(self, status: int) -> str:
        """What is wrong, in a line."""
        end = self._output()
        said = re.findall(r'^error: (.*)', end, re.MULTILINE) or end.strip().splitlines() or ['']
        cause = _FINAL.get(self._cause(status), f'failed with exit status {status}')
        return f'{cause}: {said[-1][:300]}'

    def _take(self, lock: IO[str]) -> None:
        """Wait for the run's lock, which the processes hold too, in case this one is killed."""
        since = time.monotonic()
        while fcntl is not None and self.asked is None:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() - since > _LOCK_SECONDS:
                    raise InvalidSettingError(
                        f'another process is at this run (it holds {lock.name})'
                    ) from None
                time.sleep(_TICK)

    def _try(self, lock: IO[str]) -> int:
        mark, clock = self.work_dir / 'config_hash', self.work_dir / 'wall_seconds'
        if mark.exists() and mark.read_text() != self.run.hash:
            raise InvalidSettingError(
                f'{self.work_dir} holds a part of a run of another config ({mark.read_text()}, '
                f'this is {self.run.hash}); remove it to run this one from the beginning'
            )
        if not self.tries:
            write(self.work_dir / 'run.py', self.run.config.pretty_text.encode())
            write(mark, self.run.hash.encode())
            self.wall = float(clock.read_text()) if clock.exists() else 0.0
        records.mark(self.work_dir, self.run.config)
        self.tries += 1
        with (self.work_dir / 'output.txt').open('ab') as output:
            self._said = output.tell()
            process = subprocess.Popen(
                self.command(),
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                pass_fds=[lock.fileno()] if fcntl else (),
            )
        return self._watch(process, clock)

    def _watch(self, process: subprocess.Popen, clock: Path) -> int:
        """Wait for the end, hand signals on, and note the seconds; the exit status."""
        sent, saved, status = None, time.monotonic(), None
        try:
            while status is None:
                time.sleep(_TICK)
                status = self._status(process)
                if status is None and self.asked is not None and self.asked != sent:
                    sent = self.asked
                    process.send_signal(sent)
                now = time.monotonic()
                if status is not None or now - saved > _CLOCK_SECONDS:
                    self.wall += now - saved
                    saved = now
                    write(clock, f'{self.wall:.1f}'.encode())
        finally:
            if status is None:  # such as a full disk
                process.send_signal(signal.SIGTERM)
        return status

    def _status(self, process: subprocess.Popen) -> int | None:
        """Exit status, or None; and, where the system tells, peak resident bytes."""
        if process.returncode is not None or sys.platform != 'linux':  # elsewhere other units
            return process.poll()
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if not pid:
            return None
        process.returncode = os.waitstatus_to_exitcode(status)
        self.resident = max(self.resident or 0, usage.ru_maxrss * 1024)
        return process.returncode

    def _output(self) -> str:
        """The last 16 KiB of what this try said."""
        with (self.work_dir / 'output.txt').open('rb') as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._said, size - 2**14))
            return file.read().decode(errors='replace')

    def _cause(self, status: int) -> int:
        """The status of the training itself: torchrun names it, and exits with 1."""
        named = re.findall(r'^\s*exitcode\s*: (\d+)', self._output(), re.MULTILINE)
        return int(named[0]) if status == 1 and named else status
