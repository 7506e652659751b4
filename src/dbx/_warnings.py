"""The category of dbx's warnings, and where they point at: the same at every layer."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import warnings
from pathlib import Path
from types import FrameType


class DbxWarning(UserWarning):
    """What dbx warns of: ``warnings.filterwarnings("ignore", category=dbx.DbxWarning)`` silences it."""


NOT_THE_USERS = (str(Path(__file__).parent) + os.sep, functools.__file__, contextlib.__file__)
"""Files that a warning does not point at: those of dbx, and what stands between its functions in a call."""


def warn(text: str, category: type[Warning] = DbxWarning) -> None:
    """Warn, pointing at the user's line rather than at dbx's."""
    depth = 2
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(NOT_THE_USERS):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(text, category, stacklevel=depth)
