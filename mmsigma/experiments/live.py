"""A table of a grid's runs that keeps up with them, where the output is a terminal."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mmsigma.experiments.progress import Progress, clock

STATES = ('running', 'failed', 'finished', 'open')  # the order in the table
_STYLES = {'running': 'bold', 'failed': 'red', 'finished': 'green', 'open': 'dim'}
_FRAME = 6  # lines of a table that are no runs, and a line below it


@dataclass
class Row:
    """A run in the table.

    Attributes:
        name: Of the run.
        total: Its iterations, None where it does not count them.
        state: One of :data:`STATES`.
        progress: How far it is.
        note: The device where it runs, or why it failed.
    """

    name: str
    total: int | None
    state: str = 'open'
    progress: Progress = field(default_factory=Progress)
    note: str = ''

    def cells(self) -> list[str]:
        """State, name, step, metric, time left, note."""
        now = self.progress
        step = f'{now.step}/{self.total or "?"}' if now.step or self.state == 'running' else ''
        metric = '' if now.metric is None else f'{now.metric:.4g}'
        left = clock(now.seconds_left) if self.state == 'running' else ''
        return [self.state, self.name, step, metric, left, self.note]


class Board:
    """The table; without a terminal, or without the ``rich`` package, only lines are printed.

    Args:
        title: Above the table.
        metric: What the metric's column is called.
        rows: All runs. They are read again at each :meth:`show`.
    """

    def __init__(self, title: str, metric: str, rows: Sequence[Row]) -> None:
        self.title, self.metric, self.rows = title, metric, rows
        self._live = _terminal()

    def __enter__(self) -> 'Board':
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._live is not None:
            self.show()
            self._live.stop()

    def say(self, message: str) -> None:
        """A line that stays, above the table."""
        if self._live is not None:
            self._live.console.print(message, markup=False, highlight=False)
        else:
            print(message, flush=True)

    def show(self) -> None:
        """Draw the table anew."""
        if self._live is not None:
            height = self._live.console.height
            self._live.update(_table(self.title, self.metric, self.rows, height), refresh=True)


def _terminal() -> Any:
    if not sys.stdout.isatty():
        return None
    try:
        from rich.live import Live
    except ImportError:
        return None
    return Live(auto_refresh=False)


def _table(title: str, metric: str, rows: Sequence[Row], height: int) -> Any:
    """As many rows as a terminal of this height has place for, and the numbers of all."""
    from rich.markup import escape
    from rich.table import Table

    counts = {state: sum(row.state == state for row in rows) for state in STATES}
    left = [row.progress.seconds_left for row in rows if row.state == 'running']
    caption = ', '.join(f'{count} {state}' for state, count in counts.items() if count)
    table = Table(title=title, caption=caption, title_justify='left', caption_justify='left')
    for name in ('', 'run', 'step', metric, 'left', ''):
        table.add_column(name, justify='left' if name in ('', 'run') else 'right', no_wrap=True)
    shown = sorted(rows, key=lambda row: STATES.index(row.state))[: max(1, height - _FRAME)]
    for row in shown:
        table.add_row(*map(escape, row.cells()), style=_STYLES[row.state])
    if any(left):
        table.caption = f'{caption}; the longest of these {clock(max(filter(None, left)))}'
    return table
