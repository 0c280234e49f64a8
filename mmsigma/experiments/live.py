"""Bars of a grid and of its runs that go on, where the output is a terminal."""

import sys
from typing import Any

from rich import progress
from rich.progress import TextColumn

from mmsigma.experiments.grid import Run
from mmsigma.experiments.logs import Progress


class Board(progress.Progress):
    """A bar for the grid and one for each run that goes on; without a terminal, lines alone.

    Args:
        title: Of the grid.
        runs: How many there are.
        done: How many of them are finished, or failed.
    """

    def __init__(self, title: str, runs: int, done: int = 0) -> None:
        super().__init__(
            TextColumn('{task.description}', markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            TextColumn('{task.fields[said]}', markup=False),
            progress.TimeRemainingColumn(),
            disable=not sys.stdout.isatty(),
        )
        self._grid = self.add_task(title, total=runs, completed=done, said='runs')
        self._runs: dict[str, Any] = {}

    def show(self, run: Run, far: Progress, device: str = '') -> None:
        """Say how far a run is that goes on."""
        metric = '' if far.metric is None else f'{far.metric:.4g}'
        if run.name not in self._runs:
            self._runs[run.name] = self.add_task(run.name, total=run.steps, said='')
        said = ' '.join(filter(None, [metric, device]))
        self.update(self._runs[run.name], completed=far.step, said=said)

    def end(self, run: Run, text: str, done: bool) -> None:
        """Say how a run ended, in a line that stays; ``done`` if it will not go on."""
        if run.name in self._runs:
            self.remove_task(self._runs.pop(run.name))
        self.advance(self._grid, int(done))
        grid = self.tasks[0]
        print(f'[{grid.completed:.0f}/{grid.total:.0f}] {run.name}: {text}', flush=True)
