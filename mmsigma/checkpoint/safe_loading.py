"""Reading checkpoints without running what is in them.

A ``.pth`` file is a pickle, which can call any function when it is read. PyTorch's
``weights_only`` reads tensors and plain values alone; MMEngine tries that and then reads the file
the other way after all. Here such a file is refused, unless it is trusted.
"""

import logging
import re
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import get_torch_safe_globals

from mmsigma.errors import CheckpointMismatchError

# What MMEngine's loggers and schedules leave in every checkpoint, beside what MMEngine allows.
_ALLOWED = [*get_torch_safe_globals(), *map(type, map(np.dtype, 'fdeilqILQbBhH?'))]
torch.serialization.add_safe_globals(_ALLOWED)
_trust_all = False


def read(path: str | Path, map_location: Any = 'cpu', trust: bool | None = None) -> Any:
    """The content of a local ``.pth`` file.

    Args:
        path: The file.
        map_location: As ``torch.load`` has it.
        trust: Whether to run what the file asks for, where it holds more than tensors and values;
            by default what :func:`trust_all` was told.

    Raises:
        CheckpointMismatchError: It cannot be read, or is not trusted and wants a class or function
            that no checkpoint of ours holds.
    """
    path = Path(path).expanduser()
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except UnpicklingError as error:
        unsafe = _unsafe(path, str(error))
        if not unsafe:
            raise unreadable(path, error) from error
        if not (_trust_all if trust is None else trust):
            raise CheckpointMismatchError(
                f'{path} holds more than tensors and plain values: reading it would run '
                f'{", ".join(unsafe[:3])}{", ..." if len(unsafe) > 3 else ""}, which no checkpoint '
                'of mmsigma or MMEngine needs. If you know who wrote it, add '
                '--trust-checkpoint, or call mmsigma.checkpoint.safe_loading.trust_all(True).'
            ) from error
    except Exception as error:  # pickle, zip and torch have no common base
        raise unreadable(path, error) from error
    print_log(
        f'{path} is trusted: {", ".join(unsafe)} may run.', logger='current', level=logging.WARNING
    )
    return torch.load(path, map_location=map_location, weights_only=False)


def unreadable(path: Path, error: Exception) -> CheckpointMismatchError:
    """What to say of a file that is no checkpoint, and what there is beside it."""
    near = sorted(p.name for p in path.parent.glob('*.pth') if p.name != path.name)[:8]
    size = f' ({path.stat().st_size:,} bytes)' if path.is_file() else ''
    reason = (str(error).splitlines() or [type(error).__name__])[0].partition('. ')[0]
    return CheckpointMismatchError(
        f'{path}{size} cannot be read as a checkpoint: {reason.rstrip(".")}. It is truncated or '
        f'something else; {path.parent} holds {", ".join(near) or "no other"}.'
    )


def _unsafe(path: Path, error: str) -> list[str]:
    """Classes and functions in a file that are not allowed, by name."""
    allowed = {f'{found.__module__}.{found.__qualname__}' for found in _ALLOWED}
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # no zip archive: a file of before PyTorch 1.6, or no checkpoint at all
        names = re.findall(r'GLOBAL ([\w.]+)', error)
    return [name for name in names if name not in allowed]


def trust_all(trust: bool) -> None:
    """Say whether checkpoints are trusted from here on in this process; none is at the start."""
    global _trust_all
    _trust_all = trust


def load(path: str | Path) -> Any:
    """The content of a file, or of what is at an address that MMEngine knows, on the CPU."""
    return CheckpointLoader.load_checkpoint(str(path), map_location='cpu')


def _local(filename: str, map_location: Any = None) -> Any:
    return read(filename, map_location)


def _download(filename: str, map_location: Any = None, progress: bool = True) -> Any:
    file = Path(torch.hub.get_dir()) / 'checkpoints' / Path(urlparse(filename).path).name
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(filename, str(file), progress=progress)
    return read(file, map_location)


# So that whatever goes through MMEngine in this process, mmseg's `init_model` too, reads like this.
CheckpointLoader.register_scheme(prefixes='', loader=_local, force=True)
CheckpointLoader.register_scheme(prefixes=['http://', 'https://'], loader=_download, force=True)
