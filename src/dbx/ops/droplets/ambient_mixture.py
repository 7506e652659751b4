"""A cell's counts as native and ambient ones: the cell's contamination, and the native part of each count."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

EM_STEPS = 30
MAX_CONTAMINATION = 0.95
TINY = 1e-12


def native_share(rho, native, ambient):
    """Posterior probability that a count is native, entry by entry."""
    own = (1 - rho) * native
    return own / (own + rho * ambient + TINY)


def contamination(step, start):
    """A fixed number of steps of expectation-maximisation, for JAX and NumPy arrays."""
    if isinstance(start, np.ndarray):
        for _ in range(EM_STEPS):
            start = step(start)
        return start
    return jax.lax.scan(lambda rho, _: (step(rho), None), start, length=EM_STEPS)[0]


def rounded_rows(x):
    """Integers with the rounded total of each row: the largest remainders are rounded up, ties in order."""
    if sparse.issparse(x):
        row = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
        whole = np.floor(x.data)
        order = np.lexsort((-(x.data - whole), row))
        place = np.empty_like(order)
        place[order] = np.arange(len(order)) - x.indptr[row]
        more = np.bincount(row, x.data.astype(np.float64) - whole, minlength=x.shape[0])
        x = type(x)((whole + (place < np.rint(more)[row]), x.indices, x.indptr), shape=x.shape)
        x.eliminate_zeros()
        return x
    whole = jnp.floor(x)
    remainder = x - whole
    rank = jnp.argsort(jnp.argsort(-remainder, axis=1, stable=True), axis=1)
    return whole + (rank < jnp.rint(remainder.sum(axis=1, keepdims=True)))
