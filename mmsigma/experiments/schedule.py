"""The runs of a grid in their order, as many at once as there are slots."""

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

from mmsigma.experiments.grid import Run
from mmsigma.experiments.jobs import Job
from mmsigma.experiments.live import Board, Row
from mmsigma.experiments.progress import Progress

_TICK, _LOOK = 0.1, 1.0  # seconds between looks at processes, and at logs


class Signals:
    """What this process is asked to do while its runs go on; a second Ctrl-C is not waited for."""

    def __init__(self) -> None:
        self.asked: str | None = None
        self._previous = {}
        for name in ('SIGTERM', 'SIGINT', 'SIGUSR1'):
            number = getattr(signal, name, None)
            if number and signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._ask)

    def restore(self) -> None:
        """Listen no more."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = self.asked or signal.Signals(number).name


@dataclass
class Schedule:
    """Starts runs, watches them, and tells a board about them.

    Attributes:
        rows: Of the board, by name of the run.
        board: What people see.
        slots: Environment of each run that may go on at once.
        job: Makes the job of a run in such an environment.
        finish: Records what a job that ended well has left, and says what that is in a line.
        look: The progress of a job.
        explain: What to say of an error of one run; the others go on.
        enough: Whether a run is far enough for now; it then stops like one that is asked to.
        signals: Once it is asked, no run starts, and those that go on save their last step.
    """

    rows: Mapping[str, Row]
    board: Board
    slots: Sequence[Mapping[str, str]]
    job: Callable[[Run, Mapping[str, str]], Job]
    finish: Callable[[Job], str]
    look: Callable[[Job], Progress]
    explain: Callable[[Exception], str]
    enough: Callable[[Progress], bool] = lambda progress: False
    signals: Signals = field(default_factory=Signals)

    def run(self, runs: Sequence[Run]) -> dict[str, str]:
        """Go through these runs; what failed, and why."""
        waiting, free = list(runs), list(self.slots)
        running: list[Job] = []
        failed: dict[str, str] = {}
        stopping, looked = False, 0.0
        try:
            while running or (waiting and not self.signals.asked):
                while waiting and free and not self.signals.asked:
                    running.append(self._begin(waiting.pop(0), free.pop(0)))
                if self.signals.asked and not stopping:
                    stopping = True
                    self._stop(running)
                for job in list(running):
                    ended, text = self._advance(job, stopping)
                    if ended is None:
                        continue
                    running.remove(job)
                    free.append(job.environment)
                    if ended == 'failed':
                        failed[job.run.name] = text
                    self._end(job, ended, text)
                if time.monotonic() - looked > _LOOK:
                    looked = time.monotonic()
                    for job in running:
                        self.rows[job.run.name].progress = self.look(job)
                        if not job.asked and self.enough(self.rows[job.run.name].progress):
                            job.stop(signal.SIGTERM)
                    self.board.show()
                time.sleep(_TICK)
        finally:
            for job in running:  # something else went wrong, or Ctrl-C a second time
                job.stop(signal.SIGKILL)
            self.signals.restore()
        return failed

    def _begin(self, run: Run, slot: Mapping[str, str]) -> Job:
        row = self.rows[run.name]
        row.state, row.note = 'running', slot.get('CUDA_VISIBLE_DEVICES', '')
        return self.job(run, slot)

    def _stop(self, running: Sequence[Job]) -> None:
        self.board.say(f'{self.signals.asked}: {len(running)} runs stop after their step.')
        for job in running:
            job.stop(signal.SIGTERM)

    def _advance(self, job: Job, stopping: bool) -> tuple[str | None, str]:
        """The state in which a job has ended, None if it has not, and what is to be said of it."""
        try:
            if stopping and not job.tries:
                return 'open', 'not begun'
            status = job.poll()
            if status is None:
                return None, ''
            if status == 0:
                return 'finished', self.finish(job)
            return ('open' if stopping or job.asked else 'failed'), job.problem(status)
        except Exception as error:
            job.stop(signal.SIGTERM)
            return 'failed', self.explain(error)

    def _end(self, job: Job, state: str, text: str) -> None:
        job.close()
        row = self.rows[job.run.name]
        row.state, row.note, row.progress = state, text * (state == 'failed'), self.look(job)
        states = [row.state for row in self.rows.values()]
        done = len(states) - states.count('open') - states.count('running')
        self.board.say(f'[{done}/{len(states)}] {job.run.name}: {text}')
