"""Compiled code that is kept for later sessions, by JAX's persistent compilation cache."""

from __future__ import annotations

import os
import stat
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

_before: dict[str, Any] = {}
"""What JAX was configured with before dbx changed it."""


def folder_of(value: bool | str | os.PathLike[str] | None) -> Path | None:
    """The folder that a value of ``dbx.settings.compilation_cache`` stands for; None for no cache.

    Raises
    ------
    TypeError
        It is neither a bool nor a path.
    """
    if value is None or isinstance(value, bool):
        return default_folder() if value else None
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        msg = f"compilation_cache must be True, False or the path of a folder; got {value!r}."
        raise TypeError(msg)
    return Path(value).expanduser().absolute()


def default_folder() -> Path:
    """``dbx/jax`` in the user's folder for caches: ``XDG_CACHE_HOME``, or what the system has in its place."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():  # a relative one is to be ignored, says the XDG specification
        return given / "dbx" / "jax"
    homes = {"darwin": "Library/Caches", "win32": "AppData/Local"}
    return Path.home() / homes.get(sys.platform, ".cache") / "dbx" / "jax"


def keep_compiled(folder: Path | None) -> None:
    """Have JAX read compiled code from a folder and write it there, however small; with None, as before dbx.

    Raises
    ------
    ValueError
        The folder cannot be made or written, or other users can write there: what it holds is run.
    """
    if folder is not None:
        _check(folder)
    jax = import_module("jax")
    cache = import_module("jax.experimental.compilation_cache.compilation_cache")
    wanted = _before or {}
    if folder is not None:
        wanted = {
            "jax_enable_compilation_cache": True,
            "jax_compilation_cache_dir": str(folder),
            "jax_persistent_cache_min_compile_time_secs": 0.0,
            "jax_persistent_cache_min_entry_size_bytes": -1,
        }
        if not _before:
            _before.update({name: getattr(jax.config, name) for name in wanted})
    for name, value in wanted.items():
        jax.config.update(name, value)
    cache.reset_cache()  # JAX looks for its cache once
    if folder is None:
        _before.clear()


def _check(folder: Path) -> None:
    instead = "Choose a folder of your own, or dbx.settings.compilation_cache = True."
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        msg = f"compilation_cache: the folder {str(folder)!r} cannot be made ({error.strerror}). {instead}"
        raise ValueError(msg) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        msg = f"compilation_cache: the folder {str(folder)!r} cannot be written to. {instead}"
        raise ValueError(msg)
    if sys.platform == "win32":
        return
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        msg = (
            f"compilation_cache: other users can write to {str(folder)!r}, and what is in it would be run as yours. "
            f"{instead} If it is yours: chmod 700 {str(folder)!r}"
        )
        raise ValueError(msg)
