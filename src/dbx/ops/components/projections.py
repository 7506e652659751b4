"""Constraints on the loadings of the PCA operator (``projection=``)."""

from __future__ import annotations

import jax.numpy as jnp

PROJECTIONS = ("free", "orthonormal", "gated")


def orthonormal(loadings):
    """Orthonormal columns with the same span: Q of the QR decomposition, with the signs of the columns.

    Orthonormal columns are unchanged, up to rounding.
    """
    q, r = jnp.linalg.qr(loadings)
    return q * jnp.where(jnp.diagonal(r) < 0, -1, 1).astype(q.dtype)
