"""Partial fine-tuning: only the last blocks train (Yosinski et al., NeurIPS 2014)."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from mmsigma.errors import InvalidSettingError
from mmsigma.models.tuners.base import Count, Flag, Tuner
from mmsigma.models.tuners.injection import InjectionContext
from mmsigma.models.tuners.layers import final_norms
from mmsigma.registry import TUNERS


@TUNERS.register_module()
@dataclass
class Partial(Tuner):
    """The last ``k`` blocks that run train: attention, MLP and norms inside them.

    Patch merging in front of a block is no part of it.

    Args:
        k: Number of blocks.
        final_norm: Whether the norm between the last block and its map trains too. VPT's Partial-1
            (Jia et al., ECCV 2022) trains it, Mona's does not. The default is Mona's, because its
            figures are the ones that dense prediction compares with; on Swin the two differ by
            0.002 % of the trunk.
    """

    merges_as_it_is = True

    k: Count = 1
    final_norm: Flag = False

    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Unfreeze the last blocks.

        Raises:
            InvalidSettingError: ``k`` above the number of blocks that run, or no final norm to
                train.
        """
        if self.k > len(context.blocks):
            raise InvalidSettingError(
                f'Partial k={self.k}, but this trunk runs {len(context.blocks)} blocks: use at '
                f'most {len(context.blocks)}, or Full to train everything.'
            )
        found = [p for block in context.blocks[-self.k :] for p in block.module.parameters()]
        if self.final_norm:
            norms = final_norms(context)
            if not norms:
                raise InvalidSettingError(
                    'Partial final_norm=True, but this trunk has no norm of its own between its '
                    'last block and the map of it. Leave final_norm out.'
                )
            found += [p for norm in norms for p in norm.parameters(recurse=False)]
        return found
