"""What a checkpoint of an adapted backbone holds, and the strict check before it is loaded.

A state dict keeps the adapters and whatever else trains, and a *record*: the trunk's name, the
fingerprint of its weights and the tuner's settings, as JSON in a ``uint8`` tensor. A tensor, so
that it travels through ``torch.save``, safetensors, ``weights_only`` loading and EMA alike.
"""

import json
import logging
from collections.abc import Collection, Mapping, MutableMapping
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from mmsigma.errors import CheckpointMismatchError

FORMAT = 1


def encode(record: Mapping[str, Any]) -> Tensor:
    """A record as a ``uint8`` tensor of its JSON text."""
    text = json.dumps({'format': FORMAT, **record}, sort_keys=True)
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def decode(tensor: Tensor) -> dict[str, Any]:
    """The record in a tensor made by :func:`encode`.

    Raises:
        CheckpointMismatchError: The tensor is no record, or of a newer format.
    """
    try:
        record = json.loads(bytes(tensor.cpu().tolist()).decode())
        version = record['format']
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointMismatchError(
            f'The checkpoint has an unreadable record: {error}.'
        ) from error
    if version > FORMAT:
        raise CheckpointMismatchError(
            f'The checkpoint has format {version}; this mmsigma reads up to {FORMAT}. Upgrade it.'
        )
    return record


def compare(saved: Mapping[str, Any], own: Mapping[str, Any], whole_trunk: bool) -> None:
    """Check that a checkpoint's record belongs to this backbone.

    Args:
        saved: The checkpoint's record.
        own: This backbone's record.
        whole_trunk: Whether the checkpoint holds every trunk weight, so that the weights the
            trunk was built with do not matter.

    Raises:
        CheckpointMismatchError: Another trunk, other trunk weights, other tuner settings, or other
            settings of trunk or backbone that change the maps.
    """
    if saved['trunk'] != own['trunk']:
        raise CheckpointMismatchError(
            f'The checkpoint was trained on trunk {saved["trunk"]!r}, this config builds '
            f'{own["trunk"]!r}. Use the config it was trained with.'
        )
    if saved['tuner'] != own['tuner']:
        names = sorted(saved['tuner'].keys() | own['tuner'].keys())
        differing = [
            f'{name}: {saved["tuner"].get(name)!r} in the checkpoint, '
            f'{own["tuner"].get(name)!r} in the config'
            for name in names
            if saved['tuner'].get(name) != own['tuner'].get(name)
        ]
        raise CheckpointMismatchError(
            f'The checkpoint has other adapter settings ({"; ".join(differing)}). '
            'Give the config the settings it was trained with.'
        )
    _compare_settings(saved, own)
    if saved['fingerprint'] != own['fingerprint'] and not whole_trunk:
        built = 'pretrained weights' if own['loaded'] else 'random weights'
        trained = 'pretrained weights' if saved['loaded'] else 'random weights'
        raise CheckpointMismatchError(
            f'The adapters were trained on {own["trunk"]!r} with other weights: fingerprint '
            f'{saved["fingerprint"]} ({trained}), but this trunk has {own["fingerprint"]} '
            f'({built}). Set `weights` of the trunk to the file they were trained on.'
        )


def _compare_settings(saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Compare what changes the maps besides weights and tuner; files of before do not say it."""
    before = saved.get('settings')
    if before is None:
        print_log(
            f'The checkpoint is of an earlier mmsigma: it does not say {", ".join(own["settings"])}'
            ', so nobody can tell whether this config computes what was trained.',
            logger='current',
            level=logging.WARNING,
        )
        return
    if own['settings'].keys() <= {'out_indices'}:  # a trunk that was built by hand
        before = {'out_indices': before.get('out_indices', own['settings']['out_indices'])}
    # Arguments that a later version has added are not in the file; their defaults change nothing.
    named = {name for name in own['settings'] if name.startswith('model_args.')}
    differing = [
        f'{name}: {before.get(name)!r} in the checkpoint, {own["settings"].get(name)!r} here'
        for name in sorted(before.keys() | named)
        if before.get(name) != own['settings'].get(name)
    ]
    if differing:
        raise CheckpointMismatchError(
            f'With this config the checkpoint would compute something else ({"; ".join(differing)}'
            '). Give the trunk and the backbone the settings that it was trained with.'
        )


def check_tensors(
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    required: Collection[str],
    whose: str = 'this backbone',
    advice: str = '',
) -> None:
    """Check names and shapes before any tensor is copied.

    Args:
        state: The checkpoint's tensors.
        own: Those of what it is for, named alike; of a backbone, the frozen trunk's included.
        required: Names that must be there: all that a checkpoint of it holds.
        whose: What it is for, in words.
        advice: What else to do.

    Raises:
        CheckpointMismatchError: Missing or unknown names, or other shapes.
    """
    found = {
        'missing': sorted(name for name in required if name not in state),
        'unknown': sorted(name for name in state if name not in own),
        'misshapen': [
            f'{name} is {tuple(value.shape)}, expected {tuple(own[name].shape)}'
            for name, value in state.items()
            if name in own and value.shape != own[name].shape
        ],
    }
    parts = [
        f'{len(names)} {what} ({", ".join(names[:3])}{", ..." if len(names) > 3 else ""})'
        for what, names in found.items()
        if names
    ]
    if parts:
        raise CheckpointMismatchError(
            f'The checkpoint does not fit {whose}: {"; ".join(parts)}. Use the config it was '
            f'trained with{advice}.'
        )


def drop(state: MutableMapping[str, Any], prefix: str, keep: Collection[str]) -> None:
    """Remove from ``state`` what stands below ``prefix`` and is not in ``keep``, in place.

    Only names below the backbone's own prefix are touched: siblings registered before it stay.
    """
    for name in [n for n in state if n.startswith(prefix) and n[len(prefix) :] not in keep]:
        del state[name]
