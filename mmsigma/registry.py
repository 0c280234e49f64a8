"""Child registries of MMEngine's roots, and two of our own: tuners and trunks.

Importing this module is what makes ``type='mmsigma.AdaptedBackbone'`` visible from any mmseg or
mmdet config; the classes themselves are imported when a name is first looked up.
"""

import inspect
from typing import Any

from mmengine.registry import DATA_SAMPLERS as ROOT_DATA_SAMPLERS
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import METRICS as ROOT_METRICS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as ROOT_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as ROOT_OPTIM_WRAPPERS
from mmengine.registry import STRATEGIES as ROOT_STRATEGIES
from mmengine.registry import TRANSFORMS as ROOT_TRANSFORMS
from mmengine.registry import VISBACKENDS as ROOT_VISBACKENDS
from mmengine.registry import Registry

from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown

_SCOPE = 'mmsigma'

MODELS = Registry(
    'model',
    parent=ROOT_MODELS,
    scope=_SCOPE,
    locations=['mmsigma.models.adapted_backbone', 'mmsigma.models.heads', 'mmsigma.models.necks'],
)
HOOKS = Registry('hook', parent=ROOT_HOOKS, scope=_SCOPE, locations=['mmsigma.engine.hooks'])
TRANSFORMS = Registry(
    'transform', parent=ROOT_TRANSFORMS, scope=_SCOPE, locations=['mmsigma.datasets']
)
DATA_SAMPLERS = Registry(
    'data sampler', parent=ROOT_DATA_SAMPLERS, scope=_SCOPE, locations=['mmsigma.datasets']
)
OPTIM_WRAPPERS = Registry(
    'optimizer wrapper',
    parent=ROOT_OPTIM_WRAPPERS,
    scope=_SCOPE,
    locations=['mmsigma.engine.optimizers'],
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=ROOT_OPTIM_WRAPPER_CONSTRUCTORS,
    scope=_SCOPE,
    locations=['mmsigma.engine.optimizers'],
)
VISBACKENDS = Registry(
    'vis_backend',
    parent=ROOT_VISBACKENDS,
    scope=_SCOPE,
    locations=['mmsigma.visualization.backend'],
)
METRICS = Registry('metric', parent=ROOT_METRICS, scope=_SCOPE, locations=['mmsigma.evaluation'])
STRATEGIES = Registry(
    'strategy', parent=ROOT_STRATEGIES, scope=_SCOPE, locations=['mmsigma.engine.distributed.fsdp']
)
TUNERS = Registry('tuner', scope=_SCOPE, locations=['mmsigma.models.tuners'])
TRUNKS = Registry('trunk', scope=_SCOPE, locations=['mmsigma.models.trunks'])


def find(registry: Registry, config: Any) -> Any:
    """The class of a tuner's or a trunk's config, ``dict(type=..., **arguments)``.

    Unlike ``Registry.build`` it ignores the default scope (which is mmseg's or mmdet's, where
    neither registry exists).

    Args:
        registry: :data:`TUNERS` or :data:`TRUNKS`.
        config: A dict with ``type``: a registered name, with or without the ``mmsigma.`` scope.

    Raises:
        InvalidSettingError: ``config`` is no dict with ``type``.
        UnknownNameError: The type does not exist.
    """
    kind = registry.name
    if not isinstance(config, dict) or 'type' not in config:
        raise InvalidSettingError(
            f'A {kind} is a dict with a `type`, such as {kind}=dict(type=...); given: {config!r}.'
        )
    name = config['type']
    registry.import_from_location()
    cls = registry.module_dict.get(str(name).removeprefix(f'{_SCOPE}.'))
    if cls is None:
        raise UnknownNameError(
            unknown(
                kind,
                name,
                sorted(registry.module_dict),
                f'Your own is one file: register it with `mmsigma.registry.{kind.upper()}S` and '
                'name its module in `custom_imports`.',
            )
        )
    return cls


def build(registry: Registry, config: Any) -> Any:
    """Build a tuner or a trunk; names the arguments that a class takes when one is misspelt.

    Args:
        registry, config: See :func:`find`.

    Raises:
        InvalidSettingError: ``config`` is no dict with ``type``, or an argument is missing.
        UnknownNameError: The type or an argument does not exist.
    """
    cls, kind = find(registry, config), registry.name
    arguments = dict(config)
    name = arguments.pop('type')
    parameters = dict(inspect.signature(cls).parameters)
    takes_any = [n for n, p in parameters.items() if p.kind is p.VAR_KEYWORD]
    for argument in takes_any:  # the class checks these itself
        del parameters[argument]
    for argument in arguments:
        if argument not in parameters and not takes_any:
            raise UnknownNameError(unknown(f'argument of {kind} {name}', argument, parameters))
    for argument, parameter in parameters.items():
        if parameter.default is parameter.empty and argument not in arguments:
            raise InvalidSettingError(
                f'{kind.capitalize()} {name} needs `{argument}`, which has no default; '
                f'given: {", ".join(arguments) or "nothing"}.'
            )
    built = cls(**arguments)
    if registry is TRUNKS:  # which records what it was built with
        left_out = {n: p.default for n, p in parameters.items() if p.default is not p.empty}
        built.built_with = {**left_out, **arguments}
    return built
