"""Members of zip and tar archives, one after the other."""

import gzip
import hashlib
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, cast

from mmsigma.errors import DataError

SUFFIXES = ('.zip', '.tar', '.tgz', '.tar.gz')
_BLOCK = 1 << 20
_BROKEN = (zipfile.BadZipFile, tarfile.ReadError, EOFError, gzip.BadGzipFile, zlib.error)


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        name: Its path there.
        size: Its size in bytes.
        read: Opens it; of a tar archive only until the next member is asked for.
        done: How many bytes of the archive are then dealt with.
    """

    name: str
    size: int
    read: Callable[[], IO[bytes]]
    done: int


def is_archive(path: Path) -> bool:
    """Whether a file is called like an archive."""
    return path.name.lower().endswith(SUFFIXES)


def members(path: Path) -> Iterator[Member]:
    """Every file in a zip or tar archive, or a JSON file itself; use it inside :func:`readable`."""
    if path.suffix == '.json':
        size = path.stat().st_size
        yield Member(path.name, size, lambda: path.open('rb'), size)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            done = 0
            for info in archive.infolist():
                done += info.compress_size
                if not info.is_dir():
                    yield Member(info.filename, info.file_size, partial(archive.open, info), done)
    elif path.name.lower().endswith('.zip'):
        raise zipfile.BadZipFile('the table of contents, at its end, is not there')
    else:
        with open(path, 'rb') as raw, tarfile.open(fileobj=raw, mode='r:*') as tar:
            for entry in tar:
                if entry.isfile():
                    read = cast('Callable[[], IO[bytes]]', partial(tar.extractfile, entry))
                    yield Member(entry.name, entry.size, read, raw.tell())
            # The archive may have been cut between two members, which tarfile does not mind.
            assert tar.fileobj is not None  # it is open
            tar.fileobj.seek(tar.offset)
            if tar.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise tarfile.ReadError('the mark of its end is not there')


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise errors of an archive that is cut off or damaged as :class:`DataError`."""
    try:
        yield
    except _BROKEN as error:
        raise DataError(
            f'{path} ({path.stat().st_size:,} bytes) cannot be read to its end: {error}. It is '
            'cut off or damaged, or no zip or tar archive. Download it again.'
        ) from error


def check_sum(path: Path, expected: str) -> None:
    """Compare the MD5 sum of a file.

    Raises:
        DataError: Another sum.
    """
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, 'rb') as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise DataError(
            f'{path} ({path.stat().st_size:,} bytes) has the MD5 sum {digest.hexdigest()}, the '
            f'published {path.name} has {expected}. Download it again; --partial takes it as it is.'
        )
