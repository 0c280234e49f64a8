"""Fails early, with what to install, when a dependency is missing or too old."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from packaging.version import Version

_ADVICE = (
    "Install the versions that are known to work: pip install 'mmsigma[openmmlab]' (after "
    'torch; see the README for the order, and for compiled mmcv ops).'
)

# import name -> (distribution names, oldest version, needed at import)
REQUIREMENTS: dict[str, tuple[tuple[str, ...], str, bool]] = {
    'torch': (('torch',), '2.4', True),
    'timm': (('timm',), '1.0', True),
    'mmengine': (('onedl-mmengine', 'mmengine'), '0.10', True),
    'mmcv': (('onedl-mmcv', 'mmcv', 'mmcv-lite'), '2.0', True),
    'mmseg': (('onedl-mmsegmentation', 'mmsegmentation'), '1.0', False),
    'mmdet': (('onedl-mmdetection', 'mmdet'), '3.0', False),
    'mmpretrain': (('onedl-mmpretrain', 'mmpretrain'), '1.0', False),
}

# Of optional features: import name -> (extra of this package, oldest version, first too new)
EXTRAS = {'torchao': ('int8', '0.17', '0.18')}


def installed(distributions: tuple[str, ...]) -> str | None:
    """Version of the first of these distributions that is installed, or None."""
    for name in distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def check() -> None:
    """Compare what is installed with :data:`REQUIREMENTS`.

    Raises:
        ImportError: A needed package is missing, or a present one is too old.
    """
    for module, (distributions, oldest, needed) in REQUIREMENTS.items():
        found = installed(distributions)
        if found is None:
            # A source checkout on the path has no distribution; its version is not known, so it
            # is taken as it is.
            if needed and find_spec(module) is None:
                raise ImportError(
                    f'mmsigma needs {module} >= {oldest}, which is not installed. {_ADVICE}'
                )
        elif Version(found) < Version(oldest):
            raise ImportError(
                f'mmsigma needs {module} >= {oldest}, but {module} {found} is installed. {_ADVICE}'
            )


def extra(module: str, needed_by: str) -> None:
    """Check the package behind an optional feature; see :data:`EXTRAS`.

    Args:
        module: Its import name.
        needed_by: The setting that needs it, for the message.

    Raises:
        ImportError: It is missing, or of a version that is not known to work.
    """
    name, oldest, newer = EXTRAS[module]
    found = installed((module,))
    if found is not None and Version(oldest) <= Version(found) < Version(newer):
        return
    there = 'is not installed' if found is None else f'is {found}'
    raise ImportError(
        f'{needed_by} needs {module} >= {oldest}, < {newer}, which {there}: pip install '
        f"'mmsigma[{name}]'. Or leave the setting out."
    )
