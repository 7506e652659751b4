"""Arguments that scanpy renamed and still accepts by their old name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def renamed_first(old: str, new: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function take its first argument by an old name, with scanpy's FutureWarning."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def takes_both(*args: Any, **kwargs: Any) -> R:
            if old in kwargs:
                if args or new in kwargs:
                    msg = f"{function.__name__}: pass only `{new}`; `{old}` is its former name."
                    raise TypeError(msg)
                msg = f"`{old}` of `{function.__name__}` was renamed to `{new}`: {function.__name__}(value, ...)."
                warnings.warn(msg, FutureWarning, stacklevel=2)
                args = (kwargs.pop(old),)
            return function(*args, **kwargs)

        return takes_both

    return decorate
