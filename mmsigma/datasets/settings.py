"""What a config says of a dataset, head, loss or metric, and what its class says by default."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.registry import Registry


def registered(registry: Registry, config: Mapping[str, Any], scope: str | None = None) -> Any:
    """The class that a config's ``type`` names; None where it is unknown.

    Args:
        registry: MMEngine's, e.g. ``DATASETS``.
        config: With ``type``, a name or the class itself.
        scope: The config's default scope.
    """
    name = config.get('type')
    if not isinstance(name, str):
        return name
    with registry.switch_scope_and_registry(scope) as inner:
        return inner.get(name)


def parameters(cls: Any) -> Iterator[Mapping[str, inspect.Parameter]]:
    """Parameters of a class, then of the bases that it hands its other arguments to."""
    for base in getattr(cls, '__mro__', ()):
        if '__init__' not in vars(base):
            continue
        own = inspect.signature(base.__init__).parameters
        yield own
        if all(p.kind is not p.VAR_KEYWORD for p in own.values()):
            return


def setting(config: Mapping[str, Any], cls: Any, name: str) -> Any:
    """The value of a config, or its class's default; None where there is neither."""
    if name in config:
        return config[name]
    found = next((own[name] for own in parameters(cls) if name in own), None)
    return None if found is None or found.default is found.empty else found.default
