"""Packages whose public names are imported one by one, when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, Literal

from dbx._scanpys import scanpys_own


class LazyPackage(ModuleType):
    """A package that imports a name when it is first asked for."""

    _modules: Mapping[str, str]
    _scanpys: Literal["refused", "passed"] | None

    def __getattr__(self, name: str) -> Any:
        if name not in self._modules:
            if self._scanpys:
                return scanpys_own(self.__name__, name, passes=self._scanpys == "passed")
            msg = f"module {self.__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        module = self._modules[name]
        value = getattr(import_module(module if module.startswith("dbx.") else f"{self.__name__}.{module}"), name)
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # Whoever imports dbx.pp.pca, the module, has Python bind it here, where `pca` must stay the function.
        if isinstance(value, ModuleType) and self._modules.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted(self._modules)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return import_module, (self.__name__,)  # cloudpickle knows no kind of module but Python's own


def lazy(package: str, modules: Mapping[str, str], *, scanpys: Literal["refused", "passed"] | None = None) -> None:
    """Make a package lazy.

    ``modules`` is the module that defines each of its public names: below the package, or a full name. ``scanpys`` says
    what becomes of another name in scanpy's namespace of this name: it is passed, or refused with a word where it is.
    """
    vars(sys.modules[package]).update(_modules=dict(modules), _scanpys=scanpys, __all__=sorted(modules))
    sys.modules[package].__class__ = LazyPackage
