"""A merged model as files, which the tools take like any other config and checkpoint.

::

    config + checkpoint -> folder/config.py            the model with the tuner that is left
                           folder/model.pth            head, neck, adapters that are left, record
                           folder/trunk.safetensors    the trunk, if anything was merged into it
"""

import copy
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from safetensors.torch import save_file
from torch import nn

from mmsigma.checkpoint import loading
from mmsigma.checkpoint.atomic_write import whole
from mmsigma.checkpoint.merge import merge
from mmsigma.errors import InvalidSettingError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.models.tuners.base import Tuner

CONFIG, CHECKPOINT, TRUNK = 'config.py', 'model.pth', 'trunk.safetensors'
# What belongs to the run that the config was for.
_RUN = ('work_dir', 'load_from', 'resume', 'launcher')


def save(config: Config, checkpoint: str | Path, folder: str | Path) -> dict[str, Any]:
    """Merge the model of a config and a checkpoint, and write it into a new folder.

    The folder appears when all that goes into it is written. Weights are merged in float32,
    whatever ``dtype`` the trunk runs in.

    Args:
        config: An mmseg or mmdet config with an ``AdaptedBackbone``.
        checkpoint: What training with it saved.
        folder: A path that does not exist, or an empty folder.

    Returns:
        ``before`` and ``after``: the tuners' types; ``adapters_before`` and ``adapters_after``:
        parameters that run beside upstream's own; ``files``: their sizes in bytes by name.

    Raises:
        InvalidSettingError: The folder is not empty, the model has no ``AdaptedBackbone``, or more
            than one, or its tuner does not merge.
        CheckpointMismatchError: The checkpoint does not fit.
    """
    folder = Path(folder)
    _check_free(folder)
    model, path = _build(config)
    loaded = loading.load(model, checkpoint)
    parent = model.get_submodule(path.rpartition('.')[0])
    name = path.rpartition('.')[2]
    before: AdaptedBackbone = getattr(parent, name)
    after = merge(before)
    setattr(parent, name, after)
    merged = after.trunk.fingerprint != before.trunk.fingerprint
    text = _config(config, path, after.tuner, merged).pretty_text
    meta = {**loaded.get('meta', {}), 'cfg': text}
    with whole(folder) as new:
        new.mkdir()
        if merged:
            tensors = after.trunk.weights().items()
            save_file({key: v.contiguous().clone() for key, v in tensors}, new / TRUNK)
        torch.save({'meta': meta, 'state_dict': model.state_dict()}, new / CHECKPOINT)
        (new / CONFIG).write_text(text, encoding='utf-8')
    return {
        'before': before.tuner.settings()['type'],
        'after': after.tuner.settings()['type'],
        # What a tuner put inside the trunk is counted; nothing of it is left there.
        'adapters_before': _count(before) - _count(after.trunk),
        'adapters_after': _count(after.adapters),
        'files': {file.name: file.stat().st_size for file in sorted(folder.iterdir())},
    }


def _check_free(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        held = 'a file'
        if folder.is_dir():
            held = 'a folder that holds ' + ', '.join(sorted(p.name for p in folder.iterdir())[:8])
        raise InvalidSettingError(
            f'A merged model goes into a new folder, but {str(folder)!r} is {held}. Name another, '
            'or remove it first.'
        )


def _build(config: Config) -> tuple[nn.Module, str]:
    """The config's model, its trunk in float32, and the name of its backbone."""
    model_config = copy.deepcopy(config.model)
    _in_float32(model_config)
    model = loading.build(config, model_config)
    found = list(loading.backbones(model))
    if len(found) != 1:
        raise InvalidSettingError(
            f'The config builds a {type(model).__name__} with {len(found)} backbones of mmsigma '
            f'({", ".join(found) or "none"}); a model with exactly one can be merged.'
        )
    return model, found[0]


def _in_float32(node: Any) -> None:
    """Set the trunk's dtype, wherever in the model's config it is."""
    if not isinstance(node, dict):
        return
    ours = str(node.get('type')).rpartition('.')[2] == AdaptedBackbone.__name__
    if ours and isinstance(node.get('trunk'), dict):
        node['trunk'].pop('dtype', None)
    for child in node.values():
        _in_float32(child)


def _config(config: Config, path: str, tuner: Tuner, merged: bool) -> Config:
    new = copy.deepcopy(config)
    # Recipes keep variables of these names, which would now tell of another model.
    for key in (*_RUN, 'trunk', 'tuner'):
        new.pop(key, None)
    node = new.model
    for part in path.split('.'):
        node = node[part]
    # All of its settings; the recorded ones have its type.
    node['tuner'] = {**tuner.settings(), **(vars(tuner) if is_dataclass(tuner) else {})}
    if merged:
        node['trunk']['weights'] = '{{ fileDirname }}/' + TRUNK  # so that the folder can be moved
    return new


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
