"""Adapters as files: what a tuner trained, without head and optimiser, and what it belongs to.

::

    folder/adapter.safetensors   the tensors, as the backbone names them
    folder/adapter.json          trunk, fingerprint of its weights, the tuner's settings
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor

from mmsigma.checkpoint import record as checkpoint_record
from mmsigma.checkpoint.atomic_write import write
from mmsigma.errors import CheckpointMismatchError

if TYPE_CHECKING:
    from mmsigma.models.adapted_backbone import AdaptedBackbone


TENSORS, RECORD = 'adapter.safetensors', 'adapter.json'
_EXTRA = '_extra_state'


def save(state: Mapping[str, Tensor], folder: str | Path) -> dict[str, int]:
    """Write the adapters in a state dict of a backbone, or of a model that has one.

    Args:
        state: ``backbone.state_dict()``, ``model.state_dict()``, or the ``state_dict`` of a
            checkpoint.
        folder: Where the two files go; it is made if need be, and they are replaced whole.

    Returns:
        ``tensors``, ``parameters`` and ``bytes`` that were written.

    Raises:
        CheckpointMismatchError: No record of a backbone in ``state``, or more than one.
    """
    prefixes = [k.removesuffix(_EXTRA) for k in state if k.rpartition('.')[2] == _EXTRA]
    if len(prefixes) != 1:
        raise CheckpointMismatchError(
            f'{len(prefixes)} records of an mmsigma backbone among {len(state)} tensors; adapters '
            'are exported from a checkpoint with exactly one. Was it trained with AdaptedBackbone?'
        )
    prefix = prefixes[0]
    record = checkpoint_record.decode(state[prefix + _EXTRA])
    tensors = {
        key.removeprefix(prefix): value.detach().cpu().contiguous().clone()
        for key, value in state.items()
        if key.startswith(prefix) and key != prefix + _EXTRA
    }
    data = write_tensors(tensors)
    write(Path(folder) / TENSORS, data)
    write(Path(folder) / RECORD, (json.dumps(record, indent=2, sort_keys=True) + '\n').encode())
    parameters = sum(value.numel() for value in tensors.values())
    return {'tensors': len(tensors), 'parameters': parameters, 'bytes': len(data)}


def load(backbone: 'AdaptedBackbone', folder: str | Path) -> None:
    """Load adapters that :func:`save` wrote, strictly; the backbone may have other outputs.

    Raises:
        CheckpointMismatchError: The files are missing or unreadable, or belong to another trunk,
            other trunk weights or other tuner settings.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / RECORD).read_text())
        tensors = read_tensors((folder / TENSORS).read_bytes())
    except Exception as error:  # safetensors and json have errors of their own
        there = ', '.join(sorted(p.name for p in folder.glob('*'))[:8]) or 'nothing'
        raise CheckpointMismatchError(
            f'There are no adapters to read in {str(folder)!r} ({error}); it holds {there}. Give '
            'a folder that tools/model_converters/export_adapter.py wrote, with '
            f'{TENSORS} and {RECORD}.'
        ) from error
    if 'settings' in record:
        record['settings'].pop('out_indices', None)
    backbone.load_state_dict({**tensors, _EXTRA: checkpoint_record.encode(record)})
