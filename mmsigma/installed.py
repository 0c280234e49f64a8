"""Where configs and tools lie: beside the package in a checkout, inside of it once installed."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The folder ``configs`` or ``tools``; OpenMMLab's place for them in a wheel is ``.mim``."""
    inside = _PACKAGE / '.mim' / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def config(name: str) -> Path | None:
    """The config of this name, with or without ``.py``, anywhere below the folder of configs."""
    found = folder('configs').rglob(f'{name.removesuffix(".py")}.py')
    return min(found, default=None)
