"""Reads weight files and loads them strictly."""

import pickle
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mmsigma.errors import WeightsError

SUFFIXES = ('.safetensors', '.pth', '.pt', '.bin')
_WRAPPERS = ('state_dict', 'model', 'teacher')
_TORCH_MAGIC = (b'PK', b'\x80\x02')  # zip, and the pickle of the format before it


def read(path: str) -> dict[str, Tensor]:
    """The tensors of a safetensors or PyTorch file, without running any code stored in it.

    Args:
        path: A local file; a checkpoint's ``state_dict`` or ``model`` entry is unwrapped.

    Raises:
        WeightsError: The file is missing, truncated, holds no tensors, or needs arbitrary pickles.
    """
    if not isinstance(path, str | Path):
        raise WeightsError(
            f"Trunk weights are a local file, 'hub' or 'random', with no default; given: {path!r}."
        )
    file = Path(path).expanduser()
    if not file.is_file():
        folder = file.parent
        near = sorted(p.name for p in folder.glob('*') if p.suffix in SUFFIXES)[:8]
        there = (
            f'{folder} holds {", ".join(near) or "no weight files"}'
            if folder.is_dir()
            else (f'the folder {folder} does not exist')
        )
        raise WeightsError(
            f'Trunk weights {path!r} do not exist; {there}. Give a local {" or ".join(SUFFIXES)} '
            "file, 'hub' to download them through timm, or 'random' for untrained weights."
        )
    try:
        state: Any
        if file.suffix == '.safetensors':
            state = load_file(file)
        else:
            state = torch.load(file, map_location='cpu', weights_only=True)
    except Exception as error:  # an unpickler raises anything on bytes that are no pickle
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        with file.open('rb') as stream:
            is_torch = stream.read(2) in _TORCH_MAGIC
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
    for key in _WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    entries = state if isinstance(state, Mapping) else {}
    tensors = {k: v for k, v in entries.items() if isinstance(v, Tensor)}
    if not tensors:
        found = ', '.join(map(str, list(entries)[:8])) or f'a {type(state).__name__}'
        raise WeightsError(
            f'Trunk weights {path!r} hold no named tensors at the top level or under '
            f'{" / ".join(_WRAPPERS)}; found: {found}. Give a state dict.'
        )
    return tensors


def to_timm(
    state: dict[str, Tensor], model: nn.Module, model_name: str, source: str
) -> dict[str, Tensor]:
    """Weights in the layout of a timm model.

    timm converts releases of other code bases, and resamples position embeddings of another image
    size; see the ``checkpoint_filter_fn`` beside the model's class.

    Args:
        state: Tensors as the file has them.
        model: The timm model they are for.
        model_name: Its name, for messages.
        source: Where they come from, for messages.

    Raises:
        WeightsError: timm cannot convert them.
    """
    module = sys.modules[type(model).__module__]
    convert = getattr(module, 'checkpoint_filter_fn', None)
    if convert is None:
        return state
    try:
        return convert(state, model)
    except (
        RuntimeError,
        ValueError,
        AssertionError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise WeightsError(
            f'Trunk weights {source!r} do not fit this architecture: timm cannot convert them to '
            f'{model_name!r} ({error}). Give the weights of this architecture, or the architecture '
            'of these weights.'
        ) from error


def load(
    model: nn.Module, state: Mapping[str, Tensor], source: str, ignored: Sequence[str] = ()
) -> None:
    """Load ``state`` into ``model``: every key must be there, fit, and be known.

    Args:
        model: The upstream model.
        state: Its weights, in upstream's layout.
        source: Where they come from, for messages.
        ignored: Prefixes of keys that upstream has but the trunk leaves out (a classifier).

    Raises:
        WeightsError: Missing keys, unknown keys or other shapes.
    """
    state = {k: v for k, v in state.items() if not k.startswith(tuple(ignored))}
    own = model.state_dict()
    problems = []
    for what, keys in (
        ('missing', own.keys() - state.keys()),
        ('unknown', state.keys() - own.keys()),
    ):
        if keys:
            problems.append(f'{len(keys)} {what} keys ({", ".join(sorted(keys)[:4])}, ...)')
    shapes = [
        f'{k} is {tuple(state[k].shape)} in the file, {tuple(own[k].shape)} in the model'
        for k in own
        if k in state and own[k].shape != state[k].shape
    ]
    if shapes:
        problems.append(f'{len(shapes)} other shapes ({"; ".join(shapes[:3])})')
    if problems:
        raise WeightsError(
            f'Trunk weights {source!r} do not fit this architecture: {"; ".join(problems)}. '
            'Give the weights of this architecture, or the architecture of these weights.'
        )
    model.load_state_dict(state)
