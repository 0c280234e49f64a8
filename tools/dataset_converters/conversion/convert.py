"""Many small pieces of work, on several threads, all of whose errors are told at once."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from mmsigma.checkpoint.atomic_write import write
from mmsigma.errors import DataError

Item = TypeVar('Item')
_SHOWN = 10


def for_each(
    items: Sequence[Item], function: Callable[[Item], object], title: str, workers: int
) -> None:
    """Call ``function`` with every item; a :class:`DataError` does not stop the others.

    Raises:
        DataError: All that were raised, at the end.
    """
    from tqdm.contrib.concurrent import thread_map  # --help needs none of it

    errors: list[str] = []

    def attempt(item: Item) -> None:
        try:
            function(item)
        except DataError as error:
            errors.append(str(error))

    # Decoders and encoders of images run outside Python's lock.
    thread_map(attempt, items, desc=title, max_workers=max(workers, 1), disable=None)
    if errors:
        listed = '\n'.join(sorted(errors)[:_SHOWN])
        more = f'\n... and {len(errors) - _SHOWN} more' if len(errors) > _SHOWN else ''
        raise DataError(f'{title}: {len(errors)} of {len(items)} went wrong:\n{listed}{more}')


def convert(
    jobs: Iterable[tuple[Item, Path]],
    function: Callable[[Item], bytes | None],
    title: str,
    workers: int,
) -> None:
    """Write one file for each source, except those that are there already.

    Args:
        jobs: Sources and files.
        function: The content of a source's file; None for no file.
        title: For the progress bar.
        workers: Threads.

    Raises:
        DataError: All that ``function`` raised, at the end.
    """

    def one(job: tuple[Item, Path]) -> None:
        content = function(job[0])
        if content is not None:
            write(job[1], content, sync=False)

    for_each([job for job in jobs if not job[1].exists()], one, title, workers)
