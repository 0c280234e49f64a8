"""The runs of a grid in their order, as many at once as there are slots."""

import json
import math
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import FrameType

from mmsigma.checkpoint.atomic_write import write
from mmsigma.engine import launch
from mmsigma.experiments import logs, records
from mmsigma.experiments.grid import Run, describe
from mmsigma.experiments.jobs import Job
from mmsigma.experiments.live import Board

_LOOK = 1.0  # seconds between looks at signals and logs


@contextmanager
def signals() -> Iterator[list[str]]:
    """Names of the signals to stop that this process gets; a second Ctrl-C is not waited for."""
    asked: list[str] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(signal.Signals(number).name)

    numbers = [getattr(signal, name, None) for name in ('SIGTERM', 'SIGINT', 'SIGUSR1')]
    heard = [n for n in numbers if n and signal.getsignal(n) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, ask) for number in heard}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@dataclass
class Schedule:
    """Trains runs of a grid, tells a board about them, and records those that are finished.

    Attributes:
        folder: Of the records.
        work_dir: The folders of the runs are in there.
        metric: What the grid compares.
        counts: Of :func:`mmsigma.apis.params.count`, by model.
        command: Gives the command line of a run, anew for every start.
        board: What people see.
        slots: Environment of each run that may go on at once.
        processes: Of each run.
        until: A run that has validated after this step stops like one that is asked to.
        states: By name of a run that was begun, ``finished``, ``failed`` or ``open``.
        failed: By name, why a run failed; the others go on.
        asked: Signals to stop. Then no run starts, and those that go on save their last step.
    """

    folder: Path
    work_dir: Path
    metric: str
    counts: Mapping[str, Mapping[str, float]]
    command: Callable[[Run, Path], Sequence[str]]
    board: Board
    slots: Sequence[Mapping[str, str]] = ({},)
    processes: int = 1
    until: float = math.inf
    states: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def run(self, runs: Sequence[Run]) -> None:
        """Go through these runs."""
        running: list[Job] = []
        free = SimpleQueue[Mapping[str, str]]()
        for slot in self.slots:
            free.put(slot)
        with signals() as self.asked, ThreadPoolExecutor(len(self.slots)) as pool:
            work = [pool.submit(self._one, run, free, running) for run in runs]
            told = False
            try:
                while wait(work, _LOOK).not_done:
                    self._look(running)
                    if self.asked and not told:
                        told = True
                        count = len(running)
                        print(f'{self.asked[0]}: {count} runs stop after their step.', flush=True)
            except BaseException as error:  # something else went wrong, or Ctrl-C a second time
                self.asked.append(repr(error))
                while wait(work, _LOOK).not_done:
                    for job in list(running):
                        job.stop(signal.SIGKILL)
                raise
        for future in work:
            future.result()

    def _look(self, running: Sequence[Job]) -> None:
        for job in list(running):
            progress = logs.progress(job.work_dir, self.metric)
            self.board.show(job.run, progress, job.environment.get('CUDA_VISIBLE_DEVICES', ''))
            if self.asked or progress.validated >= self.until:
                job.stop()

    def _one(self, run: Run, free: SimpleQueue[Mapping[str, str]], running: list[Job]) -> None:
        """Train a run in a free slot; in a thread of its own."""
        if self.asked:
            return
        slot, place = free.get(), self.work_dir / run.name
        job = Job(run, place, partial(self.command, run, place), slot)
        running.append(job)
        state, text = self._outcome(job)
        running.remove(job)
        free.put(slot)
        self.states[run.name] = state
        if state == 'failed':
            self.failed[run.name] = text
        self.board.end(run, text, state != 'open')

    def _outcome(self, job: Job) -> tuple[str, str]:
        """The state in which a job ends, and what is to be said of it."""
        try:
            status = job.train()
            if status is None:
                return 'open', 'not begun'
            if status == 0:
                return 'finished', self._finish(job)
            return ('failed' if job.asked is None else 'open'), job.problem(status)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in launch.FULL:
                error = launch.disk_full(error)
            return 'failed', describe(error)

    def _finish(self, job: Job) -> str:
        """Record a run; what came out of it, in a line."""
        record = records.make(job, self.metric, self.counts[job.run.model], self.processes)
        write(self.folder / f'{job.run.name}.json', (json.dumps(record, indent=2) + '\n').encode())
        last = {k: v for k, v in record['last'].items() if k != 'step' and v is not None}
        values = ', '.join(f'{name} {value:g}' for name, value in last.items())
        return f'validation {values}; {record["wall_seconds"]:.0f} s'
