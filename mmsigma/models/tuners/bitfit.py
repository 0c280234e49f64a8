"""BitFit: only biases train (Ben Zaken et al., ACL 2022, arXiv 2106.10199)."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from mmsigma.models.tuners.base import Tuner
from mmsigma.models.tuners.injection import InjectionContext
from mmsigma.registry import TUNERS


@TUNERS.register_module()
@dataclass
class BitFit(Tuner):
    """The trunk's bias terms train: of Linears, convolutions, norms and attention alike.

    A bias is a vector that a module itself calls ``bias`` or ``..._bias``: attention without a bias
    for its keys (BEiT, EVA-02, Swin V2) keeps ``q_bias`` and ``v_bias``. A search for the substring
    would also catch tables of relative position biases, which are weights; figures of 0.23 % for
    Swin-B, instead of 0.16 %, count them.
    """

    merges_as_it_is = True

    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Unfreeze the biases; blocks that never run are frozen again by the backbone."""
        for module in context.trunk.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.ndim == 1 and (name == 'bias' or name.endswith('_bias')):
                    yield parameter
