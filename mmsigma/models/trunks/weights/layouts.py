"""What a weight file looks like inside, told by its keys, and how its keys become timm's."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mmsigma.errors import WeightsError

State = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """How one code base names the tensors of one family of models.

    Attributes:
        origin: Whose names they are: ``timm``, ``release``, ``transformers``, ``mmpretrain``.
        family: The models, for messages.
        classes: The classes of timm's that run them.
        keys: Regular expressions; in a file of this layout each matches a key whole, whatever
            stands before it. What stands before the first is the prefix of the encoder's keys.
        left_out: Regular expressions of the beginnings of keys, without that prefix, that a file
            may have beside the encoder: text towers, decoders, heads, what timm computes itself.
        renames: Regular expressions and what replaces them, in order, on keys without the prefix;
            none where timm's own ``checkpoint_filter_fn`` converts the names.
        finish: ``(tensors, timm model, left out) -> tensors``, further steps on the renamed
            tensors; it adds the keys that it leaves out to the list.
    """

    origin: str
    family: str
    classes: tuple[str, ...]
    keys: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    finish: Callable[[State, Any, list[str]], State] | None = None

    def __str__(self) -> str:
        return f'{self.origin}/{self.family}'

    def describe(self) -> str:
        """What the weights look like, as a part of a sentence."""
        return f'{self.family} weights ({self.origin} layout)'

    def runs(self, model: Any) -> bool:
        """Whether ``model`` is of a class that runs these weights."""
        bases = [b for b in type(model).__mro__ if b.__module__.split('.')[0] == 'timm']
        return any(base.__name__ in self.classes for base in bases)


def recognise(state: Mapping[str, Any], layouts: Iterable[Layout]) -> tuple[Layout, str] | None:
    """The first layout whose keys the file has, and the prefix of its encoder's keys."""
    for layout in layouts:
        found = [_find(key, state) for key in layout.keys]
        if all(prefix is not None for prefix in found):
            return layout, found[0] or ''
    return None


def _find(pattern: str, state: Mapping[str, Any]) -> str | None:
    compiled = re.compile(rf'((?:\w+\.)*?)(?:{pattern})')
    matches = (compiled.fullmatch(key) for key in state)
    return next((match[1] for match in matches if match), None)


def convert(state: State, layout: Layout, prefix: str, model: Any) -> tuple[State, list[str]]:
    """Tensors under the names that timm's filter or model has, and the keys that are left out.

    Raises:
        WeightsError: Two keys become one, or from the layout's last steps.
    """
    own = model.state_dict()
    left_out = [re.compile(pattern) for pattern in layout.left_out]
    renames = [(re.compile(pattern), new) for pattern, new in layout.renames]
    renamed: State = {}
    dropped = []
    for key, value in state.items():
        name = key.removeprefix(prefix)
        if name not in own and any(pattern.match(name) for pattern in left_out):
            dropped.append(key)
            continue
        for pattern, new in renames:
            name = pattern.sub(new, name)
        if name in renamed:
            raise WeightsError(f'two tensors of the file would become {name}, the second is {key}')
        renamed[name] = value
    if layout.finish is not None:
        renamed = layout.finish(renamed, model, dropped)
    return renamed, dropped
