"""Memory that JAX uses on the CPU as it is."""

from __future__ import annotations

import numpy as np


def aligned(shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """An empty array whose alignment lets ``jax.device_put`` use it on the CPU without a copy."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)
