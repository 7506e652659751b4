"""What a user may set for a whole session: messages, progress bars, and whether compiled code is kept."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import IntEnum
from importlib import import_module
from typing import Any

from dbx._compilation_cache import folder_of, keep_compiled


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
    compilation_cache: bool | str | os.PathLike[str] | None = None
    """Keep compiled code for later sessions: True, the path of a folder, or None to compile anew in each session.

    True is ``dbx/jax`` in the user's folder for caches (``XDG_CACHE_HOME`` or ``~/.cache``; ``~/Library/Caches`` on
    macOS, ``AppData/Local`` on Windows). Reading it gives the folder.

    It is JAX's persistent compilation cache, which all of a session's JAX programs then use, not only those of dbx:
    JAX has one for a process. Code is found by the program itself, its shapes, the versions of JAX and its compiler,
    and the processor, so that other versions and machines compile their own. The folder may be deleted at any time; it
    must not be one that other users can write to.
    """

    def __getattr__(self, name: str) -> Any:
        """A setting or method of scanpy's, such as ``set_figure_params``."""
        return getattr(self._scanpys(name), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in {field.name for field in fields(self)}:
            setattr(self._scanpys(name), name, value)
            return
        if name == "verbosity" and value is not None:
            value = _level(value)
        if name == "compilation_cache":
            value = folder_of(value)
            if value != vars(self).get(name):
                keep_compiled(value)
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
