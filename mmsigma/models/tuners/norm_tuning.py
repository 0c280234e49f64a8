"""Norm tuning: only the norms' scales and shifts train.

The method is Batch-norm tuning (Frankle et al., ICLR 2021, arXiv 2003.00152) for whatever norms a
trunk has, as in the comparisons of Mona (Yin et al., CVPR 2025, arXiv 2408.08345).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from mmsigma.errors import InvalidSettingError
from mmsigma.models.tuners.base import Tuner
from mmsigma.models.tuners.injection import InjectionContext
from mmsigma.models.tuners.layers import NORMS
from mmsigma.registry import TUNERS


@TUNERS.register_module()
@dataclass
class NormTuning(Tuner):
    """Affine parameters of the trunk's norms train, those inside attention and MLPs included.

    A norm is known by its type, not by its name. Layer scales and the response normalisation of
    ConvNeXt V2 are none.
    """

    merges_as_it_is = True

    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Unfreeze the norms; those that never run are frozen again by backbone and trunk.

        Raises:
            InvalidSettingError: The trunk has no norm with parameters.
        """
        norms = [module for module in context.trunk.modules() if isinstance(module, NORMS)]
        found = [p for norm in norms for p in norm.parameters(recurse=False)]
        if not found:
            raise InvalidSettingError(
                'NormTuning finds no norm with parameters in this trunk, so nothing of it would '
                'train. Use another tuner, or Frozen if that is meant.'
            )
        return found
