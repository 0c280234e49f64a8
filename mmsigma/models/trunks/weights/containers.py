"""Files that a training wrote: several sets of weights, and names of the training's own."""

import logging
import re
from collections.abc import Mapping
from typing import Any

from mmengine.logging import print_log

from mmsigma.errors import WeightsError

# In the order in which a training's own evaluation takes them: averages and teachers first.
# MMEngine writes averages under ``state_dict``, and what it trains under ``ema_state_dict``.
SETS = (
    *('state_dict_ema', 'model_ema', 'teacher', 'state_dict', 'model', 'model_state'),
    *('module', 'student', 'ema_state_dict'),
)
_CHUNKED = re.compile(r'^((?:\w+\.)*?blocks\.)\d+\.(\d+\.)')
_BLOCK = re.compile(r'^(?:\w+\.)*?blocks\.\d+\.')


def unwrap(state: Any, wanted: str, source: str) -> Any:
    """The entries of one set of weights; where there are several, the log says which.

    Args:
        state: What the file holds.
        wanted: The name of the set to take; empty takes the first of :data:`SETS`.
        source: The file, for messages.

    Raises:
        WeightsError: The file has no such set.
    """
    for _ in SETS:  # they may lie in one another
        if not isinstance(state, Mapping):
            break
        found = _sets(state)
        if not found:
            break
        name = wanted if wanted in found else next(iter(found))
        if len(found) > 1:
            others = ' or '.join(f'{source}#{other}' for other in found if other != name)
            text = f'Trunk weights {source}: took {name} of {", ".join(found)}; others: {others}.'
            print_log(text, logger='current', level=logging.INFO)
        if name == wanted:
            wanted = ''
        state = found[name]
    if wanted:
        raise WeightsError(f'Trunk weights {source!r} have no set {wanted!r}; leave out #{wanted}.')
    return state


def _sets(state: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Sets that lie in entries, or side by side under the beginnings of keys."""
    found = {name: state[name] for name in SETS if isinstance(state.get(name), Mapping)}
    if found:
        return found
    keys = [key for key in state if isinstance(key, str)]
    for name in SETS:
        below = {k[len(name) + 1 :]: state[k] for k in keys if k.startswith(f'{name}.')}
        if any('.' in key for key in below):
            found[name] = below
    return found if {'teacher', 'student'} <= found.keys() else {}


def without_chunks(state: dict[str, Any]) -> dict[str, Any]:
    """DINOv2's training counts blocks as ``blocks.CHUNK.BLOCK``, BLOCK through all chunks."""
    blocks = [key for key in state if _BLOCK.match(key)]
    places = {match[0]: match[2] for key in blocks if (match := _CHUNKED.match(key))}
    attends = any('.attn.qkv.' in key for key in blocks)  # stages of convolutions look alike
    if not attends or not all(_CHUNKED.match(key) for key in blocks):
        return state
    if len(set(places.values())) < len(places):
        return state
    return {_CHUNKED.sub(r'\1\2', key): value for key, value in state.items()}
