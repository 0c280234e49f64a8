"""The lower bound: nothing in the trunk trains."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from mmsigma.models.tuners.base import Tuner
from mmsigma.models.tuners.injection import InjectionContext
from mmsigma.registry import TUNERS


@TUNERS.register_module()
@dataclass
class Frozen(Tuner):
    """The trunk stays as it is; only neck and head train."""

    unmergeable = 'it adds nothing to the trunk'

    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Attach nothing."""
        return ()
