"""Sequences through a network in batches of like length, bounded in memory, with few compiled shapes."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

POSITIONS_AT_ONCE = 1 << 15
"""Most positions of all sequences of one call."""
ROWS = 64
"""Sequences of one call, be there as many or not: products of other numbers of rows are summed in another order, which
would move the last digits of an embedding with those beside it."""
STEP = 32
"""Lengths are rounded up to a multiple of this."""


def outputs_of(operator: Any, values: np.ndarray, *, fixed: bool) -> dict[str, Any]:
    """What ``operator.outputs_for`` gives for sequences; with ``fixed`` all have the length of the array."""
    there = values >= 0 if values.ndim == 2 else (values != 0).any(axis=2)
    widths = np.full(len(values), values.shape[1]) if fixed else -(-there.sum(axis=1) // STEP) * STEP
    graphdef, state = nnx.split(operator)
    parts, order = [], []
    for width in np.unique(widths):
        rows = np.flatnonzero(widths == width)
        size = min(max(POSITIONS_AT_ONCE // int(width), 1), ROWS)
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            filled = np.concatenate([some, np.repeat(some[:1], size - len(some))])
            found = jax.device_get(_computed(graphdef, state, of_length(values, int(width))[filled]))
            parts.append(jax.tree.map(partial(_first, len(some)), found))
            order.append(some)
    back = np.argsort(np.concatenate(order))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[back], *parts)


def _first(n: int, leaf: np.ndarray) -> np.ndarray:
    return leaf[:n]


@partial(jax.jit, static_argnums=0)
def _computed(graphdef, state, values) -> dict[str, Any]:
    return nnx.merge(graphdef, state).outputs_for(values)


def of_length(values, length: int) -> Any:
    """The first positions, padded to a length; NumPy or JAX."""
    library: Any = np if isinstance(values, np.ndarray) else jnp
    missing = length - values.shape[1]
    if missing <= 0:
        return values[:, :length]
    padding = [(0, 0), (0, missing)] + [(0, 0)] * (values.ndim - 2)
    return library.pad(values, padding, constant_values=-1 if values.ndim == 2 else 0)


def codes_of_bases(values: np.ndarray) -> np.ndarray:
    """Codes of bases, of distributions those of the most probable."""
    if values.ndim == 2:
        return values
    return np.where(values.any(axis=2), values.argmax(axis=2), -1).astype(np.int8)
