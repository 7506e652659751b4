"""Principal components of the observed cells of one sample, in which their simulated doublets are placed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.csr import with_columns
from dbx.ops.arrays import floating, with_values
from dbx.ops.components.principal_axes import principal_axes
from dbx.ops.genes.highly_variable import HighlyVariable

MIN_CELLS, MIN_GENES = 3, 3
"""Cells in which a gene must be, and genes that a cell must then have."""
TARGET = 1e6


@dataclass(frozen=True)
class Recipe:
    """How counts become coordinates."""

    log_transform: bool = False
    mean_center: bool = True
    normalize_variance: bool = True
    n_comps: int = 30
    given: bool = False
    """The values are used as they are: normalised, and of selected genes."""


class Filtered(NamedTuple):
    """Counts of one sample after its filters."""

    genes: np.ndarray
    """Array of shape (n_genes,), bool: genes in at least ``MIN_CELLS`` cells."""
    cells: np.ndarray
    """Array of shape (n_cells,), bool: cells with at least ``MIN_GENES`` of these genes."""
    counts: sparse.csr_matrix


class Space(NamedTuple):
    """Linear coordinates of cells."""

    columns: np.ndarray
    """Column numbers of the variable genes."""
    depth: float
    """Median total of the observed cells."""
    weights: np.ndarray
    """Array of shape (n_columns, n_comps), float64."""
    offset: np.ndarray
    """Array of shape (n_comps,), float64, which is subtracted."""


def filtered(counts: sparse.csr_matrix) -> Filtered:
    """Genes in enough cells, then cells with enough of these genes."""
    genes = np.bincount(counts.indices[counts.data > 0], minlength=counts.shape[1]) >= MIN_CELLS
    return Filtered(genes, *passing(counts, genes))


def to_total(counts: sparse.csr_matrix, target: float | None) -> tuple[sparse.csr_matrix, float]:
    """Rows scaled to a total, by default to their median, in their dtype; empty rows stay empty."""
    ends = np.append(0, np.cumsum(counts.data, dtype=np.float64))
    totals = np.diff(ends[counts.indptr]).astype(counts.dtype)
    depth = counts.dtype.type(np.median(totals[totals > 0]) if target is None else target)
    factors = totals / depth
    factors += factors == 0
    return with_values(counts, counts.data / np.repeat(factors, np.diff(counts.indptr))), float(depth)


def logged(x: sparse.csr_matrix) -> sparse.csr_matrix:
    """log(1 + x)."""
    return with_values(x, np.log1p(x.data))


def variable_genes(normalised: sparse.csr_matrix) -> np.ndarray:
    """The default choice of highly variable genes in scanpy, an array of shape (n_genes,), bool."""
    chooser = HighlyVariable()
    chooser.fit(x=RowBlocks(logged(normalised)))
    return np.asarray(chooser.highly_variable[...])


def fitted_space(x: sparse.csr_matrix, columns: np.ndarray, depth: float, recipe: Recipe) -> Space:
    """Standardised by the moments of the observed cells ``x``, then their principal axes, all in float64."""
    x = sparse.csr_matrix(x, dtype=np.float64)
    mean = np.asarray(x.mean(axis=0)).ravel()
    scale = np.ones(x.shape[1])
    if recipe.normalize_variance:
        squares = np.asarray(x.multiply(x).sum(axis=0)).ravel()
        variance = np.maximum(squares - len(x.indptr[1:]) * mean**2, 0) / max(x.shape[0] - 1, 1)
        scale = 1 / np.sqrt(np.where(variance > 0, variance, 1))
    scaled: Any = with_values(x, x.data * scale.take(x.indices, mode="clip"))
    axes = principal_axes(RowBlocks(scaled, dtype=np.float64), recipe.n_comps, centre=recipe.mean_center)
    weights = axes.directions * scale[:, None]
    offset = mean @ weights if recipe.mean_center else np.zeros(recipe.n_comps)
    return Space(columns, depth, weights, offset)


def coordinates(x: sparse.csr_matrix, space: Space) -> np.ndarray:
    """Coordinates of normalised rows, an array of shape (n_rows, n_comps), float64."""
    return np.asarray(x @ space.weights) - space.offset


def passing(counts: sparse.csr_matrix, genes: np.ndarray) -> tuple[np.ndarray, sparse.csr_matrix]:
    """Which cells have enough of the ``genes``, and the counts of these genes in those cells."""
    counts = with_columns(with_values(counts, floating(counts.data)), genes)
    cells = np.diff(np.append(0, np.cumsum(counts.data > 0))[counts.indptr]) >= MIN_GENES
    return cells, counts if cells.all() else counts[cells]


def placed(counts: sparse.csr_matrix, genes: np.ndarray, space: Space, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Which cells pass the filter, and the coordinates of those, normalised like the cells of the fit."""
    if recipe.given:
        return np.ones(counts.shape[0], bool), coordinates(counts[:, space.columns], space)
    cells, counts = passing(counts, genes)
    chosen = np.searchsorted(np.flatnonzero(genes), space.columns)
    return cells, coordinates(normalised(to_total(counts, space.depth)[0][:, chosen], recipe), space)


def normalised(x: sparse.csr_matrix, recipe: Recipe) -> sparse.csr_matrix:
    """Values of the variable genes, logarithms of them if that is wanted, to one total."""
    return to_total(logged(x) if recipe.log_transform else x, TARGET)[0]
