"""Functions of the session by name: programs record the name of a function, never its code."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

_numbers = count()


@dataclass(frozen=True)
class Registered:
    """A function, or a pair of functions that fit and apply."""

    apply: Callable[..., Any]
    fit: Callable[..., Any] | None
    number: int
    """Differs between any two registrations, so that nothing compiled for an earlier function is used again."""

    @cached_property
    def digest(self) -> str:
        """Of its source; empty where there is none to be found."""
        try:
            text = "".join(map(inspect.getsource, filter(None, (self.fit, self.apply))))
        except (OSError, TypeError):
            return ""
        return hashlib.sha256("".join(text.split()).encode()).hexdigest()[:16]

    def changed_since(self, digest: str) -> bool:
        """Whether its source is another one than that of a digest; said once of each."""
        changed = bool(digest and self.digest) and digest != self.digest and (self.number, digest) not in _SAID
        if changed:
            _SAID.add((self.number, digest))
        return changed


_SAID: set[tuple[int, str]] = set()
_FUNCTIONS: dict[str, Registered] = {}


def register(name: str, function: Any) -> Registered:
    """Keep a function, or a pair ``(fit, apply)``, under a name; an earlier one of this name is replaced.

    Raises
    ------
    TypeError
        It is neither a function nor a pair of them, or the name is not a text.
    ValueError
        The name has a slash.
    """
    if not isinstance(name, str):
        msg = f"The name of a step must be a string; got {name!r}."
        raise TypeError(msg)
    if not name or "/" in name:
        msg = f"The name of a step must be one without '/', which separates groups in files; got {name!r}."
        raise ValueError(msg)
    pair = tuple(function) if isinstance(function, tuple | list) else (None, function)
    if len(pair) != 2 or not callable(pair[1]) or not (pair[0] is None or callable(pair[0])):
        msg = f"The step {name!r} must be a function or a pair of functions (fit, apply); got {function!r}."
        raise TypeError(msg)
    known = _FUNCTIONS.get(name)
    if known is None or (known.fit, known.apply) != pair:
        _FUNCTIONS[name] = Registered(pair[1], pair[0], next(_numbers))
    return _FUNCTIONS[name]


def why_missing(names: Iterable[str]) -> str | None:
    """How to pass the first function that is not in this session, as the end of a sentence; None if all are."""
    name = next((name for name in names if name not in _FUNCTIONS), None)
    if name is None:
        return None
    return (
        f"needs the function {name!r}, which is not in this session: pass functions={{{name!r}: ...}} to "
        f"dbx.rerun, or register it with dbx.register_step({name!r}, ...)"
    )


def find(name: str) -> Registered | None:
    """The function of this name, None if there is none in this session."""
    return _FUNCTIONS.get(name)
