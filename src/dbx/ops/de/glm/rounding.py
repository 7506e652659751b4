"""Functions rounded as R rounds them, where a last bit decides."""

from __future__ import annotations

import math

import numpy as np


def exp(x: np.ndarray) -> np.ndarray:
    """Exponentials of an array of shape (n,) by the C library, whose last bit NumPy's differs from in 1 of 20."""
    return np.fromiter(map(math.exp, x), np.float64, len(x))
