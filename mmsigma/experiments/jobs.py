"""One run of a grid as processes: started, watched, started again, stopped."""

import os
import re
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
        device: Name of the device, for people.
        tries: Starts so far.
        wall: Seconds that processes took, also in earlier starts of the grid.
        resident: Peak resident bytes of the training process, None where it is not known.
        asked: Whether it was asked to stop.
    """

    run: Run
    work_dir: Path
    command: Callable[[], Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    device: str = ''
    tries: int = 0
    wall: float = 0.0
    resident: int | None = None
    asked: bool = False

    def __post_init__(self) -> None:
        self._process: subprocess.Popen | None = None
        self._lock: IO[Any] | None = None
        self._since = self._saved = time.monotonic()
        self._said = 0  # where this try's output begins

    def poll(self) -> int | None:
        """Start what is to be started; the exit status when all is done, None before.

        Raises:
            InvalidSettingError: Another process is at this run, or the folder holds a part of
                another one.
        """
        if self._process is None:
            if self._locked():
                self._start()
            return None
        status = self._status()
        now = time.monotonic()
        if status is None and now - self._saved < _CLOCK_SECONDS:
            return None
        self.wall += now - self._saved
        self._saved = now
        write(self.work_dir / 'wall_seconds', f'{self.wall:.1f}'.encode())
        if status is None:
            return None
        if status and self.tries < TRIES and not self.asked and self._cause(status) not in _FINAL:
            self._start()
            return None
        return status

    def stop(self, number: int) -> None:
        """Send a signal to the run, if it has begun; there is no further try."""
        self.asked = True
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def close(self) -> None:
        """Let others have the run."""
        if self._lock is not None:
            self._lock.close()

    def problem(self, status: int) -> str:
        """What is wrong, in a line."""
        end = self._output()
        said = re.findall(r'^error: (.*)', end, re.MULTILINE) or end.strip().splitlines() or ['']
        cause = _FINAL.get(self._cause(status), f'failed with exit status {status}')
        return f'{cause}: {said[-1][:300]}'

    def _locked(self) -> bool:
        """Take the run's lock, which the processes hold too, in case this one is killed.

        Raises:
            InvalidSettingError: Others do not let go of it.
        """
        if self._lock is None:
            self.work_dir.mkdir(parents=True, exist_ok=True)
            self._lock = (self.work_dir / 'lock').open('a')
        if fcntl is None:
            return True
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() - self._since > _LOCK_SECONDS:
                raise InvalidSettingError(
                    f'another process is at this run (it holds {self._lock.name})'
                ) from None
            return False
        return True

    def _start(self) -> None:
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
        self._saved = time.monotonic()
        with (self.work_dir / 'output.txt').open('ab') as output:
            self._said = output.tell()
            self._process = subprocess.Popen(
                self.command(),
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                pass_fds=[self._lock.fileno()] if self._lock and fcntl else (),
            )

    def _status(self) -> int | None:
        """Exit status, or None; and, where the system tells, peak resident bytes."""
        process = self._process
        assert process is not None
        if not hasattr(os, 'wait4') or sys.platform != 'linux':  # elsewhere the unit is another
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
