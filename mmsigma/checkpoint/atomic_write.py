"""Files that are whole at every moment."""

import os
import tempfile
from pathlib import Path


def write(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that at any moment the old or the new file is whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with os.fdopen(handle, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp is private to the user; a checkpoint follows the umask like any other file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
