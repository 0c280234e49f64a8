"""Many files, each whole or absent."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which gets its name when the block has ended well.

    Unlike :func:`mmsigma.checkpoint.atomic_write.write` it does not wait for the disk, which would
    take hours for a hundred thousand small files; and what a killed run leaves behind, the next one
    overwrites.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.part')
    try:
        with open(part, 'wb') as file:
            yield file
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def store(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``; see :func:`whole`."""
    with whole(path) as file:
        file.write(data)
