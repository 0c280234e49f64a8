"""BitFit: only biases train (Ben Zaken et al., ACL 2022, arXiv 2106.10199)."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from mmsigma.injection import Site
from mmsigma.registry import TUNERS
from mmsigma.tuners.base import Tuner

# What modules call their bias; attention that has none for its keys keeps the others by themselves
# (BEiT, EVA-02, Swin V2).
NAMES = ('bias', 'q_bias', 'k_bias', 'v_bias')


@TUNERS.register_module()
@dataclass
class BitFit(Tuner):
    """The trunk's bias terms train: of Linears, convolutions, norms and attention alike.

    A bias is a parameter that a module itself calls ``bias``, or ``q_bias``, ``k_bias``,
    ``v_bias``. A search for the substring would also catch tables of relative position biases,
    which are weights.
    """

    def attach(self, site: Site) -> Iterable[nn.Parameter]:
        """Unfreeze the biases; blocks that never run are frozen again by the backbone."""
        for module in site.trunk.modules():
            own = dict(module.named_parameters(recurse=False))
            yield from (own[name] for name in NAMES if name in own)
