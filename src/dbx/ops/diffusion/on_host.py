"""Functions of NumPy arrays within compiled ones, in float64 whatever the precision outside."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def on_host(function, shapes, *args):
    """Call a function of NumPy arrays for results of these shapes.

    Numbers travel as their 32-bit words: in the thread of a callback float64 is not enabled and would be narrowed.
    """
    dtypes = [x.dtype for x in args]

    def call(*words):
        values = (
            np.asarray(w).view(dtype).reshape(w.shape[: x.ndim])
            for w, dtype, x in zip(words, dtypes, args, strict=True)
        )
        return tuple(np.ascontiguousarray(x).view(np.uint32).reshape(_words(x).shape) for x in function(*values))

    found = jax.pure_callback(call, tuple(_words(x) for x in shapes), *(_as_words(x) for x in args))
    return tuple(jax.lax.bitcast_convert_type(x, shape.dtype) for x, shape in zip(found, shapes, strict=True))


def _words(x) -> jax.ShapeDtypeStruct:
    wide = (2,) if x.dtype.itemsize == 8 else ()
    return jax.ShapeDtypeStruct((*x.shape, *wide), np.uint32)


def _as_words(x):
    return jax.lax.bitcast_convert_type(x, jnp.uint32)


def packed(x: np.ndarray) -> np.ndarray:
    """Float64 as its 32-bit words, an array with a last axis of 2: so it can wait outside for another call."""
    return np.ascontiguousarray(x, np.float64).view(np.uint32).reshape(*x.shape, 2)


def unpacked(words: np.ndarray) -> np.ndarray:
    """The inverse of :func:`packed`."""
    return np.ascontiguousarray(words).view(np.float64)[..., 0]
