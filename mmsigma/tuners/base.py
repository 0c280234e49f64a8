"""The contract of a parameter-efficient fine-tuning method."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from torch import nn

from mmsigma.errors import InvalidSettingError
from mmsigma.injection import Site


class Tuner(ABC):
    """A method as a dataclass: its fields are its settings, :meth:`attach` is what it does.

    Every field is recorded in checkpoints and must agree when one is loaded, except those declared
    with ``field(metadata={'recorded': False})``, which change how a model trains or how fast it
    runs, but not what it computes.
    """

    @abstractmethod
    def attach(self, site: Site) -> Iterable[nn.Parameter]:
        """Put adapters into ``site`` and return the *trunk's own* parameters that shall train.

        The trunk arrives frozen. Modules put into the site always train.
        """

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


def check_dropout(tuner: Tuner) -> None:
    """Check the setting ``dropout``.

    Raises:
        InvalidSettingError: It is no probability below one.
    """
    value = tuner.dropout  # type: ignore[attr-defined]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise InvalidSettingError(
            f'{type(tuner).__name__} dropout is a probability in [0, 1); given: {value!r}.'
        )


def check_scale(tuner: Tuner) -> None:
    """Check the setting ``scale``.

    Raises:
        InvalidSettingError: It is no finite number, or zero, which would turn the method off.
    """
    value = tuner.scale  # type: ignore[attr-defined]
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or value == 0:
        raise InvalidSettingError(
            f'{type(tuner).__name__} scale is a finite number other than 0; given: {value!r}.'
        )


def check_fits(tuner: Tuner, name: str, width: int, of: str = 'a block of this trunk') -> None:
    """Check that a setting is no larger than the width that it divides or factorises.

    Raises:
        InvalidSettingError: It is.
    """
    value = getattr(tuner, name)
    if value > width:
        raise InvalidSettingError(
            f'{type(tuner).__name__} {name} {value} is larger than the width of {of}, {width}: '
            f'use at most {width}.'
        )
