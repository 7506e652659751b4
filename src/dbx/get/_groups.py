"""Names of selected groups."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def group_names(group: Any) -> list[str]:
    """One group or several, by name or by value, as str."""
    several = isinstance(group, Iterable) and not isinstance(group, str)
    return list(map(str, group)) if several else [str(group)]
