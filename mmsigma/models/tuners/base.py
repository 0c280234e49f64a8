"""The contract of a parameter-efficient fine-tuning method."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, ClassVar

from torch import nn

from mmsigma.errors import InvalidSettingError
from mmsigma.models.trunks.block import Block
from mmsigma.models.tuners.injection import InjectionContext


class Tuner(ABC):
    """A method as a dataclass: its fields are its settings, :meth:`attach` is what it does.

    Every field is recorded in checkpoints and must agree when one is loaded, except those declared
    with ``field(metadata={'recorded': False})``, which change how a model trains or how fast it
    runs, but not what it computes.

    Attributes:
        unmergeable: Why nothing of the method can be merged, as the rest of a sentence.
    """

    unmergeable: ClassVar[str] = 'it has no `merge` that says how its adapters would merge'

    @abstractmethod
    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Put adapters into ``context`` and return the *trunk's own* parameters that shall train.

        The trunk arrives frozen. Modules put into the context always train.
        """

    def merge(self, context: InjectionContext) -> dict[str, Any]:
        """Merge what is linear, in place, and return the config of the tuner that is left.

        Called on a copy, without gradients, the trunk in float32. What merges into the trunk's own
        layers leaves the context without adapters, and the config is ``Frozen``'s; otherwise the
        adapters left at the context have the names and shapes of those that the new tuner attaches.

        Raises:
            InvalidSettingError: The method does not merge, or not on this trunk, and why.
        """
        raise InvalidSettingError(
            f'{type(self).__name__} does not merge: {self.unmergeable}. Run the model as it is, '
            'adapters and all.'
        )

    def settings(self) -> dict[str, Any]:
        """The recorded settings, as plain JSON values."""
        recorded = (f.name for f in fields(self) if f.metadata.get('recorded', True))  # type: ignore[arg-type]
        values = {name: getattr(self, name) for name in recorded}
        return {
            'type': type(self).__name__,
            **{k: list(v) if isinstance(v, tuple) else v for k, v in values.items()},
        }


def check_count(tuner: Tuner, *names: str) -> None:
    """Check settings that count something.

    Raises:
        InvalidSettingError: One that is no whole number of at least one.
    """
    for name in names:
        value = getattr(tuner, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidSettingError(
                f'{type(tuner).__name__} {name} must be a whole number >= 1; given: {value!r}.'
            )


def check_counts(tuner: Tuner, name: str) -> None:
    """Check a setting that is one count or one for each stage; the latter become a tuple.

    Raises:
        InvalidSettingError: One of them is no whole number of at least one, or there is none.
    """
    value = getattr(tuner, name)
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not values or any(isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in values):
        raise InvalidSettingError(
            f'{type(tuner).__name__} {name} must be a whole number >= 1, or one for each stage; '
            f'given: {value!r}.'
        )
    setattr(tuner, name, value if isinstance(value, int) else values)


def check_flags(tuner: Tuner, *names: str) -> None:
    """Check settings that are on or off.

    Raises:
        InvalidSettingError: One that is neither True nor False.
    """
    for name in names:
        value = getattr(tuner, name)
        if not isinstance(value, bool):
            raise InvalidSettingError(
                f'{type(tuner).__name__} {name} is True or False; given: {value!r}.'
            )


def check_lists(tuner: Tuner, *names: str) -> None:
    """Check settings that are lists; one whose default is a name or None may be such, too.

    Raises:
        InvalidSettingError: One that is no list.
    """
    defaults = {f.name: f.default for f in fields(tuner)}  # type: ignore[arg-type]
    for name in names:
        value, default = getattr(tuner, name), defaults[name]
        listed = isinstance(value, Sequence) and not isinstance(value, str)
        if listed or (type(value) is type(default) and isinstance(default, str | None)):
            continue
        raise InvalidSettingError(
            f'{type(tuner).__name__} {name} is a list; given: {value!r}. The default is '
            f'{list(default) if isinstance(default, tuple) else default!r}.'
        )


def check_dropout(tuner: Any) -> None:
    """Check the setting ``dropout``.

    Raises:
        InvalidSettingError: It is no probability below one.
    """
    value = tuner.dropout
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise InvalidSettingError(
            f'{type(tuner).__name__} dropout is a probability in [0, 1); given: {value!r}. '
            'Use 0 for none.'
        )


def check_scale(tuner: Any, *others: str) -> None:
    """Check the setting ``scale``, a number or one of ``others``.

    Raises:
        InvalidSettingError: It is no finite number, or zero, which would turn the method off.
    """
    value = tuner.scale
    if isinstance(value, str) and value in others:
        return
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or value == 0:
        options = ''.join(f', or {name!r}' for name in others)
        raise InvalidSettingError(
            f'{type(tuner).__name__} scale is a finite number other than 0{options}; '
            f'given: {value!r}.'
        )


def per_stage(tuner: Tuner, name: str, blocks: Sequence[Block]) -> list[int]:
    """The channels inside each block's adapter: a setting that is one number, or one per stage.

    One number may be above the width of a narrow early stage, but not above all widths; numbers of
    their own may not be above those of their stages.

    Raises:
        InvalidSettingError: More or fewer numbers than the trunk has stages, or too large ones.
    """
    value = getattr(tuner, name)
    if isinstance(value, int):
        check_widest(tuner, name, blocks)
        return [value] * len(blocks)
    stages = 1 + max(block.stage for block in blocks)
    if len(value) != stages:
        raise InvalidSettingError(
            f'{type(tuner).__name__} {name} {list(value)} names {len(value)} stages, but this '
            f'trunk has {stages}: give one number per stage, or one for all.'
        )
    for block in blocks:
        check_fits(tuner, name, block.width, f'stage {block.stage}', value[block.stage])
    return [value[block.stage] for block in blocks]


def check_widest(tuner: Tuner, name: str, blocks: Sequence[Block]) -> None:
    """Check that the channels inside adapters are no more than those of the widest block.

    A narrow early stage may have fewer: one setting then serves the whole trunk.

    Raises:
        InvalidSettingError: They are.
    """
    widest = max(block.width for block in blocks)
    check_fits(tuner, name, widest, 'the widest block of this trunk')


def check_fits(
    tuner: Tuner,
    name: str,
    width: int,
    of: str = 'a block of this trunk',
    value: int | None = None,
) -> None:
    """Check that a setting is no larger than the width that it divides or factorises.

    Args:
        tuner: The method.
        name: The setting.
        width: The largest value, in channels.
        of: Whose width that is.
        value: The value here, of a setting that has several.

    Raises:
        InvalidSettingError: It is.
    """
    value = getattr(tuner, name) if value is None else value
    if value > width:
        raise InvalidSettingError(
            f'{type(tuner).__name__} {name} {value} is larger than the width of {of}, {width}: '
            f'use at most {width}.'
        )
