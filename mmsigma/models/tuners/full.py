"""The usual upper bound: everything trains."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from mmsigma.models.tuners.base import Tuner
from mmsigma.models.tuners.injection import InjectionContext
from mmsigma.registry import TUNERS


@TUNERS.register_module()
@dataclass
class Full(Tuner):
    """Full fine-tuning: every parameter of the trunk trains, and checkpoints hold all of them."""

    merges_as_it_is = True

    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Unfreeze the trunk."""
        return context.trunk.parameters()
