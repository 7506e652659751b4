"""What ``projection=`` of the PCA operator makes of its loadings."""

from __future__ import annotations

import jax.numpy as jnp

PROJECTIONS = ("free", "orthonormal", "gated")


def orthonormal(loadings):
    """Orthonormal columns that span the same: Q of the QR decomposition, its signs those of the columns.

    Columns that are orthonormal stay as they are, up to rounding.
    """
    q, r = jnp.linalg.qr(loadings)
    return q * jnp.where(jnp.diagonal(r) < 0, -1, 1).astype(q.dtype)
