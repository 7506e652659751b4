"""Functions of NumPy arrays within compiled ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from dbx.ops.values import Array


def on_host(
    function: Callable[..., Sequence[np.ndarray]], shapes: Sequence[jax.ShapeDtypeStruct], *args: Array
) -> tuple[jax.Array, ...]:
    """Call a function of NumPy arrays for results of these shapes, in 32 or 64 bits.

    Numbers travel as their 32-bit words: a callback may run in a thread where float64 is not enabled, which narrows it.
    """
    dtypes = [x.dtype for x in args]

    def call(*words: Any) -> tuple[np.ndarray, ...]:
        values = (
            np.asarray(w).view(dtype).reshape(w.shape[: x.ndim])
            for w, dtype, x in zip(words, dtypes, args, strict=True)
        )
        results = zip(function(*values), shapes, strict=True)
        # a number comes out of ascontiguousarray as an array of one
        return tuple(np.ascontiguousarray(x, y.dtype).view(np.uint32).reshape(_words(y).shape) for x, y in results)

    found = jax.pure_callback(call, tuple(_words(x) for x in shapes), *(_as_words(x) for x in args))
    return tuple(jax.lax.bitcast_convert_type(x, shape.dtype) for x, shape in zip(found, shapes, strict=True))


def _words(x: Any) -> jax.ShapeDtypeStruct:
    wide = (2,) if x.dtype.itemsize == 8 else ()
    return jax.ShapeDtypeStruct((*x.shape, *wide), np.uint32)


def _as_words(x: Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(x, np.uint32)


def packed(x: np.ndarray) -> np.ndarray:
    """Float64 as its 32-bit words, an array with a last axis of 2: so it can wait outside for another call."""
    return np.ascontiguousarray(x, np.float64).view(np.uint32).reshape(*x.shape, 2)


def unpacked(words: np.ndarray) -> np.ndarray:
    """The inverse of :func:`packed`."""
    return np.ascontiguousarray(words).view(np.float64)[..., 0]
