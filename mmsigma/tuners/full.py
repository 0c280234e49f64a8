"""The usual upper bound: everything trains."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from mmsigma.injection import Site
from mmsigma.registry import TUNERS
from mmsigma.tuners.base import Tuner


@TUNERS.register_module()
@dataclass
class Full(Tuner):
    """Full fine-tuning: every parameter of the trunk trains, and checkpoints hold all of them."""

    def attach(self, site: Site) -> Iterable[nn.Parameter]:
        """Unfreeze the trunk."""
        return site.trunk.parameters()
