"""MMEngine's rules for single parameters, in as few groups as they allow."""

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmsigma.registry import OPTIM_WRAPPER_CONSTRUCTORS


def merged(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups of an optimiser, those of equal settings as one, in the order of their first."""
    found: dict[str, dict[str, Any]] = {}
    for group in groups:
        settings = {name: value for name, value in group.items() if name != 'params'}
        alike = repr(sorted(settings.items()))
        found.setdefault(alike, {**settings, 'params': []})['params'].extend(group['params'])
    return list(found.values())


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's default constructor, whose groups of equal settings become one.

    With ``paramwise_cfg`` MMEngine makes a group of every parameter, and PyTorch's optimisers run
    group by group: a model with adapters has hundreds. The step is the same; on a GPU it takes a
    fraction of the time (docs/performance.md). ``_base_/schedules`` name this one.
    """

    def add_params(
        self,
        params: list[dict[str, Any]],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: float | None = None,
    ) -> None:
        """Append the groups of ``module``'s parameters to ``params``."""
        super().add_params(params, module, prefix, is_dcn_module)
        if not prefix:  # the whole model, not a module on MMEngine's way down
            params[:] = merged(params)
