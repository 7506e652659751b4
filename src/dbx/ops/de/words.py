"""Names in error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST = 12


def listed(names: Iterable) -> str:
    """Names in quotes, the first dozen of them."""
    texts = [repr(str(name)) for name in names]
    return ", ".join(texts[:MOST]) + (f" and {len(texts) - MOST} more" if len(texts) > MOST else "")


def did_you_mean(name: str, names: Iterable) -> str:
    """A sentence with the name that was meant, or nothing where none is like it."""
    known = {str(other).lower(): str(other) for other in names}
    close = difflib.get_close_matches(str(name).lower(), known, n=1)
    return f" Did you mean {known[close[0]]!r}?" if close else ""
