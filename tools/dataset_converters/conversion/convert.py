"""Many small pieces of work, on several threads, all of whose errors are told at once."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

from conversion.progress import bar
from conversion.store import store
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
    errors: list[DataError] = []
    if not items:
        return
    with bar(title, len(items)) as progress, ThreadPoolExecutor(max(workers, 1)) as pool:
        # Decoders and encoders of images run outside Python's lock.
        futures = [pool.submit(function, item) for item in items]
        try:
            for future in as_completed(futures):
                try:
                    future.result()
                except DataError as error:
                    errors.append(error)
                progress.step()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if errors:
        texts = sorted(map(str, errors))
        listed = '\n'.join(texts[:_SHOWN])
        more = f'\n... and {len(texts) - _SHOWN} more' if len(texts) > _SHOWN else ''
        raise DataError(f'{title}: {len(texts)} of {len(items)} went wrong:\n{listed}{more}')


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
            store(job[1], content)

    for_each([job for job in jobs if not job[1].exists()], one, title, workers)
