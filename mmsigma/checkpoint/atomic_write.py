"""Files and folders that are whole at every moment."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def whole(path: str | Path, sync: bool = True) -> Iterator[Path]:
    """Where to write a file, or make a folder, that gets its name when the block has ended well.

    Args:
        path: The name. A file there is replaced, and so is an empty folder.
        sync: Wait until it is on the disk, and let several processes write it at the same time.
            Without, a hundred thousand small files do not take hours, and what a killed run leaves
            behind, the next one overwrites.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f'.{path.name}.{uuid4().hex[:8] if sync else "part"}')
    try:
        yield new
        if sync:
            for file in filter(Path.is_file, (new, *new.rglob('*'))):
                with file.open('rb') as stream:
                    os.fsync(stream.fileno())
        os.replace(new, path)
    finally:  # nothing is there any more when it has its name
        if new.is_dir():
            shutil.rmtree(new)
        new.unlink(missing_ok=True)


def write(path: str | Path, data: bytes, sync: bool = True) -> None:
    """Write ``data`` to ``path``; see :func:`whole`."""
    with whole(path, sync) as new:
        new.write_bytes(data)
