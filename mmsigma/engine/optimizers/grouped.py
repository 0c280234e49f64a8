"""MMEngine's rules for single parameters, in as few groups as they allow."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from mmengine.logging import MMLogger, print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown
from mmsigma.registry import OPTIM_WRAPPER_CONSTRUCTORS

# What MMEngine says of every single parameter.
_NOISE = ('paramwise_options -- ', 'is skipped since its requires_grad=False')


def merged(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups of an optimiser, those of equal settings as one, in the order of their first."""
    found: dict[str, dict[str, Any]] = {}
    for group in groups:
        settings = {name: value for name, value in group.items() if name != 'params'}
        alike = repr(sorted(settings.items()))
        found.setdefault(alike, {**settings, 'params': []})['params'].extend(group['params'])
    return list(found.values())


@contextmanager
def _quiet() -> Iterator[None]:
    """Without a line in the log for each setting of each parameter."""

    def passes(record: logging.LogRecord) -> bool:
        return not any(words in record.getMessage() for words in _NOISE)

    logger = MMLogger.get_current_instance()
    logger.addFilter(passes)
    try:
        yield
    finally:
        logger.removeFilter(passes)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's default constructor, whose groups of equal settings become one.

    With ``paramwise_cfg`` MMEngine makes a group of every parameter, and PyTorch's optimisers run
    group by group: a model with adapters has hundreds. The step is the same; on a GPU it takes a
    fraction of the time (docs/performance.md). ``_base_/schedules`` name this one. The log has one
    line of all groups, where MMEngine's has one for each setting of each parameter.

    Args:
        optim_wrapper_cfg: The optimiser wrapper with its ``optimizer``.
        paramwise_cfg: As MMEngine's.

    Raises:
        UnknownNameError: A setting that nothing reads.
        InvalidSettingError: A ``paramwise_cfg`` that is no dict.
    """

    # MMEngine looks its settings up one by one, and so never misses one that is misspelt.
    known: ClassVar[tuple[str, ...]] = (
        'custom_keys',
        'bias_lr_mult',
        'bias_decay_mult',
        'norm_decay_mult',
        'flat_decay_mult',
        'dwconv_decay_mult',
        'dcn_offset_lr_mult',
        'bypass_duplicate',
    )

    def __init__(
        self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None
    ) -> None:
        super().__init__(optim_wrapper_cfg, self._checked(paramwise_cfg))

    @classmethod
    def _checked(cls, paramwise_cfg: Mapping[str, Any] | None) -> dict[str, Any]:
        if not isinstance(paramwise_cfg, Mapping | None):
            raise InvalidSettingError(
                'paramwise_cfg is a dict, such as dict(norm_decay_mult=0.0); given: '
                f'{paramwise_cfg!r}.'
            )
        for name in paramwise_cfg or {}:
            if name not in cls.known:
                raise UnknownNameError(unknown('setting of paramwise_cfg', name, cls.known))
        return dict(paramwise_cfg or {})

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """The optimiser wrapper of what trains in a model."""
        with _quiet():
            wrapper = super().__call__(model)
        groups = [group for group in wrapper.param_groups if group['params']]
        settings = [
            f'{len(group["params"])} at lr {group["lr"]:g}'
            + (f', weight decay {group["weight_decay"]:g}' if 'weight_decay' in group else '')
            for group in groups
        ]
        more = '; ...' if len(groups) > 6 else ''
        print_log(
            f'Optimiser: {len(groups)} groups of parameters ({"; ".join(settings[:6])}{more})',
            logger='current',
        )
        return wrapper

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
            self.settle(params, module)
            params[:] = merged(params)

    def settle(self, params: list[dict[str, Any]], model: nn.Module) -> None:
        """Change the groups of single parameters before they are merged; here, nothing."""
