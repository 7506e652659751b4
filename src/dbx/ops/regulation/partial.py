"""Networks of partial correlations, from a shrunk covariance matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from dbx.ops.arrays import array_library
from dbx.ops.regulation.panel import Network, Panel
from dbx.ops.values import Array


def partial_network(panel: Panel, *, shrinkage: float | None = None) -> Network:
    """Partial correlation of each regulator with each target, given all other genes of the panel."""
    found = partial_correlations(panel.values, shrinkage)[np.ix_(panel.regulators, panel.targets)]
    return Network(np.where(panel.itself, 0, np.abs(found)), np.sign(found).astype(np.int8))


def partial_correlations(x: Array, shrinkage: float | None = None) -> Array:
    """-P_ij / sqrt(P_ii P_jj), where P is the inverse of the shrunk covariance of the columns.

    Symmetric, with -1 on the diagonal; differentiable in ``x``, of which the columns are centred and should have
    variance 1. With n cells and g genes it takes n g + g^2 numbers.
    """
    precision = array_library(x).linalg.inv(shrunk_covariance(x, shrinkage))
    scale = array_library(x).sqrt(array_library(x).diagonal(precision))
    return -precision / (scale[:, None] * scale)


def shrunk_covariance(x: Array, shrinkage: float | None = None) -> Array:
    """Covariance shrunk towards a multiple of the identity, by default by :func:`best_shrinkage`."""
    weight: Any = best_shrinkage(x) if shrinkage is None else shrinkage
    x = x - x.mean(axis=0)
    covariance = x.T @ x / len(x)
    mean = covariance.trace() / x.shape[1]
    return (1 - weight) * covariance + weight * mean * array_library(x).eye(x.shape[1], dtype=x.dtype)


def best_shrinkage(x: Array) -> Array:
    """Weight of the identity that minimises the expected squared error (Ledoit and Wolf, J. Multivar. Anal., 2004).

    As :func:`sklearn.covariance.ledoit_wolf_shrinkage`, in NumPy or JAX.
    """
    n_cells, n_genes = x.shape
    x = x - x.mean(axis=0)
    covariance = x.T @ x / n_cells
    square = (covariance**2).sum()
    spread = square - covariance.trace() ** 2 / n_genes
    noise = (((x**2).sum(axis=1) ** 2).sum() / n_cells - square) / n_cells
    library = array_library(x)
    return library.where(spread > 0, library.minimum(noise, spread) / library.where(spread > 0, spread, 1), 1.0)
