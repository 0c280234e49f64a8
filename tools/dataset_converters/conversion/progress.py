"""Progress bars, on the error stream and on terminals only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bar:
    """A bar under way."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def to(self, done: float) -> None:
        """So much is done, of what was announced."""
        self._progress.update(self._task, completed=done)

    def step(self, amount: float = 1) -> None:
        """So much more is done."""
        self._progress.advance(self._task, amount)


@contextmanager
def bar(title: str, total: int, items: bool = True) -> Iterator[Bar]:
    """A bar with a title.

    Args:
        title: What is done.
        total: Items, or bytes, there are.
        items: Whether the count is of items, and worth showing.
    """
    # Not above: --help needs none of it.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    count = [MofNCompleteColumn()] if items else []
    columns = [TextColumn('{task.description}'), BarColumn(), TaskProgressColumn(), *count]
    console = Console(stderr=True)
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(title, total=total)
        yield Bar(progress, task)
        progress.update(task, completed=total)
