"""What a user may set for a whole session: how much dbx says, and whether it shows progress."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import IntEnum
from importlib import import_module
from typing import Any


class Verbosity(IntEnum):
    """How much is said, as in scanpy."""

    error = 0
    warning = 1
    info = 2
    hint = 3
    debug = 4


@dataclass
class Settings:
    """Session-wide settings; read by wrappers only, never by operators."""

    verbosity: int | None = None
    """0 errors, 1 warnings, 2 what is being computed, 3 also what was written where, 4 everything; None as scanpy's."""
    progress: bool | None = None
    """Progress bars: True, False, or None for yes at verbosity >= 2."""

    def __getattr__(self, name: str) -> Any:
        """A setting or method of scanpy's, such as ``set_figure_params``."""
        return getattr(self._scanpys(name), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in {field.name for field in fields(self)}:
            setattr(self._scanpys(name), name, value)
            return
        if name == "verbosity" and value is not None:
            value = _level(value)
        super().__setattr__(name, value)

    def _scanpys(self, name: str) -> Any:
        """Settings of scanpy, for a name that they have and dbx lacks."""
        theirs = None if name.startswith("_") else import_module("scanpy").settings
        if theirs is None or not hasattr(theirs, name):
            own = ", ".join(field.name for field in fields(self))
            msg = f"There is no setting {name!r}; dbx has {own}, and scanpy's settings are set here, too."
            raise AttributeError(msg)
        return theirs

    @contextlib.contextmanager
    def override(self, *, verbosity: int | str | None = None, progress: bool | None = None) -> Iterator[None]:
        """Set something for the length of a ``with`` block."""
        before = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in {"verbosity": verbosity, "progress": progress}.items():
            if value is not None:
                setattr(self, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(self, name, value)


def _level(value: int | str) -> Verbosity:
    try:
        return Verbosity[value] if isinstance(value, str) else Verbosity(value)
    except (KeyError, ValueError):
        names = ", ".join(f"{level.value} or {level.name!r}" for level in Verbosity)
        msg = f"verbosity must be None or one of {names}; got {value!r}."
        raise ValueError(msg) from None


settings = Settings()
