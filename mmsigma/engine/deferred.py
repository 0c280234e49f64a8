"""What frameworks import for one class among many is imported when that class is used.

Where they are installed, MMEngine imports transformers for one optimiser, and mmseg imports mmdet
for two heads and mmpretrain for one data set: half of the seconds that a start takes. After
:func:`install` these classes are stand-ins until a config, or other code, uses one.

The means is Python's own: a finder on :data:`sys.meta_path`. No framework is changed.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

# Modules of mmseg of one class each: its name, and the registry that has it.
_MODULES = {
    'mmseg.models.decode_heads.mask2former_head': ('Mask2FormerHead', 'MODELS'),
    'mmseg.models.decode_heads.maskformer_head': ('MaskFormerHead', 'MODELS'),
    'mmseg.datasets.onedl': ('OneDLDataset', 'DATASETS'),
}
# The module that imports a package for one name of it.
_IMPORTER, _PACKAGE, _NAME = 'mmengine.optim.optimizer.builder', 'transformers', 'Adafactor'


def install() -> None:
    """Defer what has not been imported yet; a second call changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _IMPORTER and fullname not in _MODULES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        loader = _WithoutPackage if fullname == _IMPORTER else _StandIn
        spec.loader = loader(spec.loader)
        return spec


class _WithoutPackage(Loader):
    """Executes a module that finds a stand-in in place of the package."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def exec_module(self, module: ModuleType) -> None:
        spec = None if _PACKAGE in sys.modules else find_spec(_PACKAGE)
        if spec is None:  # it costs nothing any more, or is not installed
            self.loader.exec_module(module)
            return
        package = module_from_spec(spec)
        setattr(package, _NAME, _adafactor)
        sys.modules[_PACKAGE] = package
        try:
            self.loader.exec_module(module)
        finally:
            del sys.modules[_PACKAGE]


def _adafactor(params: Any, **settings: Any) -> Any:
    return getattr(import_module(_PACKAGE), _NAME)(params, **settings)


class _StandIn(Loader):
    """Gives a module one name, which executes the module when it is used."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def exec_module(self, module: ModuleType) -> None:
        name, registry = _MODULES[module.__name__]
        later = _Later(self.loader, module, name, registry)
        later.register()
        setattr(module, name, later)


class _Later:
    """A class that is imported when it is called, subclassed or compared with.

    Args:
        loader: That of its module.
        module: In which its stand-in is.
        name: Its name, there and in the registry.
        registry: The name of its registry in ``mmseg.registry``.
    """

    def __init__(self, loader: Loader, module: ModuleType, name: str, registry: str) -> None:
        self._loader, self._module, self._registered_in = loader, module, registry
        self.__name__, self.__module__ = name, module.__name__

    @property
    def _registry(self) -> Any:
        return getattr(import_module('mmseg.registry'), self._registered_in)

    def register(self) -> None:
        """Give the registry, which takes no such objects, a function that builds the class."""

        def build(*args: Any, **settings: Any) -> Any:
            return self(*args, **settings)

        build.__name__, build.__module__ = self.__name__, self.__module__
        self._registry.register_module(name=self.__name__, module=build)

    @property
    def _loaded(self) -> bool:
        return getattr(self._module, self.__name__) is not self

    def load(self) -> type:
        """The class itself; the first time, its module is executed, which registers it."""
        if not self._loaded:
            self._registry.module_dict.pop(self.__name__, None)
            try:
                self._loader.exec_module(self._module)
            except BaseException:
                self.register()
                raise
        return getattr(self._module, self.__name__)

    def __call__(self, *args: Any, **settings: Any) -> Any:
        return self.load()(*args, **settings)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (self.load(),)

    def __instancecheck__(self, instance: Any) -> bool:
        return self._loaded and isinstance(instance, self.load())

    def __reduce__(self) -> str:
        return self.__name__  # a name of its module, as a class is: copies are the same

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):  # Python asks for many, to find out what it has
            raise AttributeError(name)
        return getattr(self.load(), name)
