"""The contract of a parameter-efficient fine-tuning method."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, fields
from typing import Annotated, Any, ClassVar

from torch import nn

from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown
from mmsigma.models.ops.depthwise import FORMS
from mmsigma.models.trunks.block import Block
from mmsigma.models.tuners.injection import InjectionContext
from mmsigma.registry import TRUNKS, TUNERS, find

# In the type of a field: it changes how a model trains or how fast it runs, not what it computes.
UNRECORDED = 'unrecorded'


class Kind:
    """What a setting may be; ``Annotated`` with one, a field is checked when a tuner is built.

    Args:
        need: The values that are good, as the rest of a sentence.
        good: Whether a value is one of them.
        advice: What else to say of others.
    """

    def __init__(self, need: str, good: Callable[[Any], bool], advice: str = '') -> None:
        self.need = need
        self.good = good
        self.advice = advice

    def check(self, what: str, value: Any) -> None:
        """Check the setting that ``what`` names.

        Raises:
            InvalidSettingError: Another value.
        """
        if not self.good(value):
            raise InvalidSettingError(f'{what} {self.need}; given: {value!r}.{self.advice}')


class Choice(Kind):
    """One of a few names."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def check(self, what: str, value: Any) -> None:
        """Check the setting that ``what`` names.

        Raises:
            UnknownNameError: Another name.
        """
        if value not in self.names:
            raise UnknownNameError(unknown(what, value, self.names))


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, and no flag."""
    return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)


def is_count(value: Any) -> bool:
    """Whether a value is a whole number of at least one."""
    return type(value) is int and value >= 1


def is_counts(value: Any) -> bool:
    """Whether a value is a count, or a list of them."""
    return (
        all(map(is_count, value)) if isinstance(value, list | tuple) and value else is_count(value)
    )


def is_list(value: Any) -> bool:
    """Whether a value is a list or a tuple, and no text."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def is_factor(value: Any) -> bool:
    """Whether a value is a number that does not turn a method off, as zero would."""
    return is_number(value) and value != 0


Count = Annotated[int, Kind('must be a whole number >= 1', is_count)]
COUNTS = Kind('must be a whole number >= 1, or one for each stage', is_counts)
Counts = Annotated[int | Sequence[int], COUNTS]
Flag = Annotated[bool, Kind('is True or False', lambda value: isinstance(value, bool))]
Factor = Annotated[float, Kind('is a finite number other than 0', is_factor)]
Dropout = Annotated[
    float,
    Kind('is a probability in [0, 1)', lambda v: is_number(v) and 0 <= v < 1, ' Use 0 for none.'),
    UNRECORDED,
]
Form = Annotated[str, Choice(FORMS), UNRECORDED]


def _marks(own: Field) -> tuple[Any, ...]:
    """What the type of a field is annotated with."""
    return getattr(own.type, '__metadata__', ())


class Tuner(ABC):
    """A method as a dataclass: its fields are its settings, :meth:`attach` is what it does.

    Every field is recorded in checkpoints and must agree when one is loaded, except those declared
    with ``field(metadata={'recorded': False})`` or a type that has :data:`UNRECORDED`. Fields whose
    type has a :class:`Kind` are checked.

    Attributes:
        requires: What the method requires of a trunk, whatever its settings are: names of
            :mod:`mmsigma.models.trunks.block`.
        merges_as_it_is: Whether what trains is the trunk's own and becomes the trunk.
        unmergeable: Why nothing of the method can be merged, as the rest of a sentence.
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    merges_as_it_is: ClassVar[bool] = False
    unmergeable: ClassVar[str] = 'it has no `merge` that says how its adapters would merge'

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UnknownNameError: An option that does not exist.
            InvalidSettingError: A value that a setting may not have.
        """
        for own in fields(self):  # type: ignore[arg-type]
            for kind in _marks(own):
                if isinstance(kind, Kind):
                    value = getattr(self, own.name)
                    kind.check(f'{type(self).__name__} {own.name}', value)
                    if kind is COUNTS and isinstance(value, list):
                        setattr(self, own.name, tuple(value))

    @classmethod
    def required(cls, settings: Mapping[str, Any]) -> frozenset[str]:
        """What the method with these settings requires of a trunk, told without building it.

        A pair goes together if this is a part of what the trunk provides: see
        :meth:`mmsigma.models.trunks.base.Trunk.provided`.
        """
        return cls.requires

    @abstractmethod
    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Put adapters into ``context`` and return the *trunk's own* parameters that shall train.

        The trunk arrives frozen. Modules put into the context always train.

        Raises:
            InvalidSettingError: Settings too large for the trunk, or a trunk that lacks what the
                method requires.
        """

    def merge(self, context: InjectionContext) -> dict[str, Any]:
        """Merge what is linear, in place, and return the config of the tuner that is left.

        Called on a copy, without gradients, the trunk in float32. What merges into the trunk's own
        layers leaves the context without adapters, and the config is ``Frozen``'s; otherwise the
        adapters left at the context have the names and shapes of those that the new tuner attaches.

        Raises:
            InvalidSettingError: The method does not merge, or not on this trunk, and why.
        """
        if self.merges_as_it_is:
            return {'type': 'Frozen'}
        raise InvalidSettingError(
            f'{type(self).__name__} does not merge: {self.unmergeable}. Run the model as it is, '
            'adapters and all.'
        )

    def settings(self) -> dict[str, Any]:
        """The recorded settings, as plain JSON values."""
        values = {
            own.name: getattr(self, own.name)
            for own in fields(self)  # type: ignore[arg-type]
            if own.metadata.get('recorded', UNRECORDED not in _marks(own))
        }
        return {
            'type': type(self).__name__,
            **{k: list(v) if isinstance(v, tuple) else v for k, v in values.items()},
        }

    def per_stage(self, name: str, blocks: Sequence[Block]) -> list[int]:
        """The channels inside each block's adapter: a setting that is one number, or one per stage.

        One number may be above the width of a narrow early stage, but not above all widths; numbers
        of their own may not be above those of their stages.

        Raises:
            InvalidSettingError: More or fewer numbers than the trunk has stages, or too large ones.
        """
        value = getattr(self, name)
        if isinstance(value, int):
            self.check_widest(name, blocks)
            return [value] * len(blocks)
        stages = 1 + max(block.stage for block in blocks)
        if len(value) != stages:
            raise InvalidSettingError(
                f'{type(self).__name__} {name} {list(value)} names {len(value)} stages, but this '
                f'trunk has {stages}: give one number per stage, or one for all.'
            )
        for block in blocks:
            self.check_fits(name, block.width, f'stage {block.stage}', value[block.stage])
        return [value[block.stage] for block in blocks]

    def check_widest(self, name: str, blocks: Sequence[Block]) -> None:
        """Check that the channels inside adapters are no more than those of the widest block.

        A narrow early stage may have fewer: one setting then serves the whole trunk.

        Raises:
            InvalidSettingError: They are.
        """
        widest = max(block.width for block in blocks)
        self.check_fits(name, widest, 'the widest block of this trunk')

    def check_fits(
        self, name: str, width: int, of: str = 'a block of this trunk', value: int | None = None
    ) -> None:
        """Check that a setting is no larger than the width that it divides or factorises.

        Args:
            name: The setting.
            width: The largest value, in channels.
            of: Whose width that is.
            value: The value here, of a setting that has several.

        Raises:
            InvalidSettingError: It is.
        """
        value = getattr(self, name) if value is None else value
        if value > width:
            raise InvalidSettingError(
                f'{type(self).__name__} {name} {value} is larger than the width of {of}, {width}: '
                f'use at most {width}.'
            )


def missing(trunk: Mapping[str, Any], tuner: Mapping[str, Any]) -> frozenset[str]:
    """What the tuner of a config requires and the trunk of another does not provide.

    A pair for which it is empty goes together. Nothing is built: the classes say it.

    Raises:
        InvalidSettingError: A config without a type.
        UnknownNameError: A trunk or a tuner that does not exist.
    """
    return find(TUNERS, tuner).required(tuner) - find(TRUNKS, trunk).provided(trunk)
