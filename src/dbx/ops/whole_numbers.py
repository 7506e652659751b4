"""Settings that are whole numbers: 5.0, from configuration files or arithmetic, becomes 5; 5.5 is an error."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from numbers import Integral, Real
from typing import Any, cast

import numpy as np

WHOLE = ("int", "int | None")
"""Type annotations of settings that are whole numbers."""


def whole(value: Any, name: str) -> Any:
    """Convert a whole number to int; None stays None.

    Raises
    ------
    ValueError
        The number has a fraction or is not finite.
    TypeError
        The value is not a number.
    """
    value = value.item() if isinstance(value, np.ndarray | np.generic) and value.ndim == 0 else value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer()):
        return int(cast(Any, value))
    msg = f"{name} must be a whole number; got {value!r}."
    raise (ValueError if isinstance(value, Real) else TypeError)(msg)


def with_whole_numbers(init: Callable[..., None]) -> Callable[..., None]:
    """An operator's ``__init__`` that converts its settings of type ``int`` by :func:`whole`."""
    annotations = getattr(init, "__annotations__", {})
    names = [name for name, kind in annotations.items() if getattr(kind, "__name__", str(kind)) in WHOLE]
    names = [name for name in names if name != "return"]
    if not names:
        return init

    @wraps(init)
    def checked(self, *args, **settings):
        init(self, *args, **{k: whole(value, k) if k in names else value for k, value in settings.items()})

    return checked
