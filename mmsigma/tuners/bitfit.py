"""BitFit: only biases train (Ben Zaken et al., ACL 2022, arXiv 2106.10199)."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from mmsigma.injection import Site
from mmsigma.registry import TUNERS
from mmsigma.tuners.base import Tuner


@TUNERS.register_module()
@dataclass
class BitFit(Tuner):
    """The trunk's bias terms train: of Linears, convolutions and norms alike.

    A bias is a parameter that a module itself calls ``bias``. A search for the substring would also
    catch tables of relative position biases, which are weights.
    """

    def attach(self, site: Site) -> Iterable[nn.Parameter]:
        """Unfreeze the biases; blocks that never run are frozen again by the backbone."""
        for module in site.trunk.modules():
            bias = dict(module.named_parameters(recurse=False)).get('bias')
            if bias is not None:
                yield bias
