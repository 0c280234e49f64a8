"""Reads weight files, brings them under timm's names, and loads them strictly."""

import argparse
import json
import logging
import pickle
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from safetensors.torch import load_file
from torch import Tensor, nn

from mmsigma.errors import WeightsError
from mmsigma.models.trunks.weights import (
    containers,
    layouts,
    position,
    release_layout,
    transformers_layout,
)

LAYOUTS = (*transformers_layout.LAYOUTS, *release_layout.LAYOUTS)
SUFFIXES = ('.safetensors', '.pth', '.pt', '.bin')
_WRAPPERS = containers.SETS
_INDEX = '.index.json'  # of a model that transformers saved in several files
_TORCH_MAGIC = (b'PK', b'\x80\x02')  # zip, and the pickle of the format before it
_ADVICE = 'Give the weights of this architecture, or the architecture of these weights.'
# What timm's filters raise on tensors that they did not expect.
_CANNOT = (RuntimeError, ValueError, AssertionError, LookupError, TypeError, AttributeError)

# What they join or resample, and so return as other tensors under another name.
_MADE_ANEW = re.compile(r'[qkv]_proj\.|pos(itional)?_embed(ding)?$|patch|conv1\.')


def read(path: str) -> dict[str, Tensor]:
    """The tensors of a safetensors or PyTorch file, without running any code stored in it.

    Args:
        path: A local file; of several sets of weights, see
            :mod:`mmsigma.models.trunks.weights.containers`, ``FILE#SET`` takes another. Of a model
            in several files, its ``.index.json``.

    Raises:
        WeightsError: The file is missing, truncated, holds no tensors, or needs arbitrary pickles.
    """
    if not isinstance(path, str | Path):
        raise WeightsError(
            f"Trunk weights are a local file, 'hub' or 'random', with no default; given: {path!r}."
        )
    file, wanted = Path(path).expanduser(), ''
    if not file.exists() and '#' in file.name:
        path, _, wanted = str(path).rpartition('#')
        file = Path(path).expanduser()
    path = str(path)
    if not file.is_file():
        folder = file if file.is_dir() else file.parent
        near = sorted(p.name for p in folder.glob('*') if p.name.endswith((*SUFFIXES, _INDEX)))[:8]
        there = (
            f'{folder} holds {", ".join(near) or "no weight files"}'
            if folder.is_dir()
            else f'the folder {folder} does not exist'
        )
        raise WeightsError(
            f'Trunk weights {path!r} {"are a folder" if file.is_dir() else "do not exist"}; '
            f'{there}. Give a local {" or ".join(SUFFIXES)} file, '
            "'hub' to download them through timm, or 'random' for untrained weights."
        )
    if file.name.endswith(_INDEX):
        return _read_parts(file)
    if re.search(r'-\d{5}-of-\d{5}\.', file.name):
        raise WeightsError(
            f'Trunk weights {path!r} are one part of several: give the file beside them that ends '
            f'in {_INDEX}.'
        )
    state = _open(file, path)
    state = containers.unwrap(state, wanted, path)
    entries = state if isinstance(state, Mapping) else {}
    tensors = {k: v for k, v in entries.items() if isinstance(v, Tensor)}
    if not tensors:
        found = ', '.join(map(str, list(entries)[:8])) or f'a {type(state).__name__}'
        raise WeightsError(
            f'Trunk weights {path!r} hold no named tensors at the top level or under '
            f'{" / ".join(_WRAPPERS)}; found: {found}. Give a state dict.'
        )
    return containers.without_chunks(tensors)


def _read_parts(index: Path) -> dict[str, Tensor]:
    try:
        parts = sorted(set(json.loads(index.read_text())['weight_map'].values()))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise WeightsError(
            f'Trunk weights {str(index)!r} are no index of weight files: {error!r}. It is '
            'truncated or not what its name says; fetch it again.'
        ) from error
    tensors: dict[str, Tensor] = {}
    for part in parts:
        file = index.parent / part
        if not file.is_file():
            raise WeightsError(
                f'Trunk weights {str(index)!r} name {part}, which is not beside it: fetch all of '
                f'{", ".join(parts)}.'
            )
        tensors |= _open(file, str(file))
    return tensors


def _open(file: Path, path: str) -> Any:
    try:
        if file.suffix == '.safetensors':
            return load_file(file)
        with torch.serialization.safe_globals([argparse.Namespace]):  # options of the training
            return torch.load(file, map_location='cpu', weights_only=True)
    except Exception as error:  # an unpickler raises anything on bytes that are no pickle
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        with file.open('rb') as stream:
            is_torch = stream.read(2) in _TORCH_MAGIC
        if 'TorchScript' in lines[0]:
            raise WeightsError(
                f'Trunk weights {path!r} are a TorchScript program, not plain tensors. If you '
                'trust it, convert it once: torch.save(torch.jit.load(file).state_dict(), out).'
            ) from error
        if not is_torch and isinstance(error, pickle.UnpicklingError):
            lines = ['it does not begin as a PyTorch file does']
        elif isinstance(error, pickle.UnpicklingError):
            raise WeightsError(
                f'Trunk weights {path!r} are no plain tensors: reading them would run code from '
                f'the file ({lines[min(1, len(lines) - 1)].strip()[:200]}). If you trust it, '
                'convert it once: safetensors.torch.save_file('
                'torch.load(file, weights_only=False)["state_dict"], out).'
            ) from error
        raise WeightsError(
            f'Trunk weights {path!r} ({file.stat().st_size:,} bytes) cannot be read: {lines[0]}. '
            'The file is truncated or not what its name says; fetch it again and compare its size.'
        ) from error


class Weights(dict[str, Tensor]):
    """Tensors under a timm model's names, and what is to be said of how they came to be so.

    Attributes:
        layout: What the file had.
        left_out: Keys of the file that no encoder has.
        notes: What was resampled, one phrase each.
        loud: Whether a note is a warning.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        layout: layouts.Layout,
        left_out: Sequence[str],
        notes: Sequence[str],
        loud: bool,
    ) -> None:
        super().__init__(tensors)
        self.layout = layout
        self.left_out = left_out
        self.notes = notes
        self.loud = loud


def to_timm(
    state: dict[str, Tensor],
    model: nn.Module,
    model_name: str,
    source: str,
    pos_resample: str = position.TIMM,
) -> Weights:
    """Weights under the names of a timm model, whoever's names the file has.

    timm converts most releases of other code bases, and resamples position embeddings of another
    image size (the ``checkpoint_filter_fn`` beside the model's class). What timm does not know is
    converted first; see :mod:`mmsigma.models.trunks.weights.layouts`.

    Args:
        state: Tensors as the file has them.
        model: The timm model they are for.
        model_name: Its name, for messages.
        source: Where they come from, for messages.
        pos_resample: How position embeddings are resampled, a name of
            :data:`mmsigma.models.trunks.weights.position.ANTIALIAS`.

    Raises:
        WeightsError: They cannot be converted.
    """
    layout, prefix = _recognise(state)
    if layout.origin == 'transformers' and not layout.runs(model):
        raise WeightsError(
            f'Trunk weights {source!r} do not fit this architecture: they look like '
            f'{layout.describe()}, for a {" or ".join(layout.classes)} of timm, but {model_name!r} '
            f'is a {type(model).__name__}. {_ADVICE}'
        )
    try:
        named, left_out = layouts.convert(state, layout, prefix, model)
        converted = _filter(named, model)
        if pos_resample != position.TIMM and position.is_resampled(named, converted, model):
            antialias = position.ANTIALIAS[pos_resample]
            converted['pos_embed'] = _filter(named, model, antialias=antialias)['pos_embed']
    except (*_CANNOT, WeightsError) as error:
        raise WeightsError(
            f'Trunk weights {source!r} do not fit this architecture: {_looks(layout)}cannot be '
            f'converted to {model_name!r} ({error}). {_ADVICE}'
        ) from error
    if 'mask_token' not in model.state_dict():
        converted.pop('mask_token', None)
    left_out += _dropped(named, converted)
    notes, loud = position.changes(named, converted, model, pos_resample)
    return Weights(converted, layout, left_out, notes, loud)


def _recognise(state: Mapping[str, Tensor]) -> tuple[layouts.Layout, str]:
    return layouts.recognise(state, LAYOUTS) or (release_layout.UNKNOWN, '')


def _filter(state: dict[str, Tensor], model: nn.Module, **options: Any) -> dict[str, Tensor]:
    module = sys.modules[type(model).__module__]
    convert = getattr(module, 'checkpoint_filter_fn', None)
    return dict(state) if convert is None else convert(dict(state), model, **options)


def _dropped(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """Keys that timm's filter left out: neither the name nor the memory is in what it returned."""
    memory = {value.data_ptr() for value in after.values()}
    return [
        key
        for key, value in before.items()
        if key not in after and value.data_ptr() not in memory and not _MADE_ANEW.search(key)
    ]


def _looks(layout: layouts.Layout) -> str:
    if layout is release_layout.UNKNOWN:
        return 'they '
    return f'they look like {layout.describe()} and '


def load(
    model: nn.Module, state: Mapping[str, Tensor], source: str, ignored: Sequence[str] = ()
) -> None:
    """Load ``state`` into ``model``: every key must be there, fit, and be known.

    What was left out or resampled is said once, through MMEngine's current logger.

    Args:
        model: The upstream model.
        state: Its weights, in upstream's layout.
        source: Where they come from, for messages.
        ignored: Prefixes of keys that upstream has but the trunk leaves out (a classifier).

    Raises:
        WeightsError: Missing keys, unknown keys or other shapes.
    """
    left_out = [key for key in state if key.startswith(tuple(ignored))]
    tensors = {key: value for key, value in state.items() if key not in left_out}
    own = model.state_dict()
    problems = []
    for what, keys in (
        ('missing', own.keys() - tensors.keys()),
        ('unknown', tensors.keys() - own.keys()),
    ):
        if keys:
            problems.append(f'{len(keys)} {what} keys ({", ".join(sorted(keys)[:4])}, ...)')
    shapes = [
        f'{k} is {tuple(tensors[k].shape)} in the file, {tuple(own[k].shape)} in the model'
        for k in own
        if k in tensors and own[k].shape != tensors[k].shape
    ]
    if shapes:
        problems.append(f'{len(shapes)} other shapes ({"; ".join(shapes[:3])})')
    if problems:
        layout = state.layout if isinstance(state, Weights) else _recognise(state)[0]
        raise WeightsError(
            f'Trunk weights {source!r} do not fit this architecture: {_looks(layout)}have '
            f'{"; ".join(problems)}. {_ADVICE}'
        )
    model.load_state_dict(tensors)
    _report(state, left_out, source)


def _report(state: Mapping[str, Tensor], ignored: Iterable[str], source: str) -> None:
    said = []
    left_out, notes, loud = [*ignored], [], False
    if isinstance(state, Weights):
        left_out, notes, loud = [*state.left_out, *left_out], [*state.notes], state.loud
    if left_out:
        plural = 's' if len(left_out) > 1 else ''
        said.append(f'left out {len(left_out)} key{plural} ({_summary(left_out)})')
    if said or notes:
        layout = f'layout {state.layout}; ' if isinstance(state, Weights) else ''
        print_log(
            f'Trunk weights {source!s}: {layout}{"; ".join([*said, *notes])}.',
            logger='current',
            level=logging.WARNING if loud else logging.INFO,
        )


def _summary(keys: Sequence[str]) -> str:
    """The keys, those below one top-level module together, at most eight names."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(key.partition('.')[0], []).append(key)
    named = []
    for members in groups.values():
        levels = zip(*(key.split('.')[:-1] for key in members), strict=False)
        shared = '.'.join(level[0] for level in takewhile(lambda n: len(set(n)) == 1, levels))
        ends = {key.rpartition('.')[2] for key in members}
        end = f'*.{ends.pop()}' if len(ends) == 1 else '*'
        named.append(members[0] if len(members) == 1 else f'{shared}.{end} x {len(members)}')
    return ', '.join(named[:8]) + (', ...' if len(named) > 8 else '')
