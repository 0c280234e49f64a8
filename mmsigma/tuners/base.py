"""The contract of a parameter-efficient fine-tuning method."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from torch import nn

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
