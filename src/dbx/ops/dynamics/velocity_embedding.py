"""Velocities projected into an embedding."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.threads import row_slices
from dbx.ops.arrays import dense
from dbx.ops.checks import check_above_zero
from dbx.ops.dynamics.transitions import Kernel, confidence_bound, host_transitions, transitions
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Reference, silent
from dbx.ops.values import Array, Edges, Graph

AT_ONCE = 1 << 12
"""Cells projected together."""
PLOT = (4.96, 3.696)
"""Width and height of the axes, in inches, that arrows are scaled for."""
MARGIN = 1.1
"""Length of an axis over the range of the values on it."""


class VelocityEmbedding(Operator):
    """Mean direction of a cell's transitions in an embedding, less that of equal probabilities for all of its edges.

    ``v_i = sum_j (T_ij - mean of row i) (e_j - e_i) / |e_j - e_i|``, over the edges to other cells. With
    ``autoscale`` one factor scales all arrows so that they are a third as long as arrows usually are in a plot.

    Bergen et al., Nature Biotechnology, 2020. The reference implementation is ``scvelo.tl.velocity_embedding``.

    New cells: from their transitions into the reference cells, with the same factor.
    """

    name = "velocity_embedding"
    inputs: ClassVar = {"positive": Input(kind="graph"), "negative": Input(kind="graph"), "x": Input()}
    outputs: ClassVar = {"velocity": Output()}
    rowwise = True
    host = True
    references: ClassVar = {"embedding": "x"}

    def __init__(
        self,
        *,
        scale: float = 10.0,
        self_transitions: bool = True,
        use_negative_cosines: bool = True,
        autoscale: bool = True,
    ):
        self.scale = scale
        self.self_transitions = self_transitions
        self.use_negative_cosines = use_negative_cosines
        self.autoscale = autoscale
        check_above_zero(scale, "scale")

    @property
    def kernel(self) -> Kernel:
        """How correlations become probabilities."""
        return Kernel(self.scale, self.self_transitions, self.use_negative_cosines)

    def fit(
        self,
        *,
        positive: sparse.csr_matrix,
        negative: sparse.csr_matrix,
        x: RowBlocks,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Find the factor of all arrows."""
        self.bound = Constant(np.asarray(confidence_bound(positive), np.float64))
        self.embedding, self.factor = Reference(x.dense()), Constant(np.asarray(1.0, np.float64))
        if self.autoscale:
            rows = np.arange(x.n_rows, dtype=np.int32)
            velocity = self._on_host(Edges(positive, rows), Edges(negative, rows), x.dense())
            self.factor = Constant(np.asarray(arrow_factor(x.dense(), velocity), np.float64))

    def __call__(self, positive: Graph | Edges, negative: Graph | Edges, x) -> dict[str, Array]:
        """Arrows, an array of shape (n_cells, n_dims)."""
        if isinstance(positive, Edges) and isinstance(negative, Edges):
            return {"velocity": self._on_host(positive, negative, dense(x))}
        return {"velocity": self._on_device(positive, negative, x)}

    def _on_device(self, positive: Any, negative: Any, x: Array) -> Array:
        weights = positive.weights
        stay = self.kernel.stay(weights.max(axis=1), self.bound[...].astype(weights.dtype))
        ends, probabilities, _ = transitions(positive, negative, self.kernel, stay)
        edge = probabilities != 0
        mean = probabilities.sum(axis=1, keepdims=True) / jnp.maximum(edge.sum(axis=1, keepdims=True), 1)
        apart = jnp.asarray(self.embedding[...]).astype(x.dtype)[ends] - x[:, None]
        square = (apart**2).sum(axis=2, keepdims=True)
        unit = jnp.where(square > 0, apart / jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
        above = jnp.where(edge, probabilities - mean, 0)
        return (above[:, :, None] * unit).sum(axis=1) * self.factor[...].astype(x.dtype)

    def _on_host(self, positive: Edges, negative: Edges, x: np.ndarray) -> np.ndarray:
        stay = self.kernel.stay(positive.matrix.max(axis=1).toarray().ravel(), float(self.bound[...]))
        cells, result = np.asarray(self.embedding[...], np.float64), np.zeros(x.shape, np.float64)
        for rows in row_slices(slice(0, len(x)), AT_ONCE):
            above, below, _ = host_transitions(positive[rows], negative[rows], self.kernel, stay[rows])
            edges = sparse.hstack([above, below], format="csr")
            edges.indices %= len(cells)
            result[rows] = mean_direction(edges, x[rows].astype(np.float64), cells)
        return (result * float(self.factor[...])).astype(x.dtype)


def mean_direction(matrix: sparse.csr_matrix, x: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Sum of unit displacements weighted by probabilities less their mean, an array of shape (n_cells, n_dims)."""
    degree = np.diff(matrix.indptr)
    apart = cells[matrix.indices] - np.repeat(x, degree, axis=0)
    length = np.sqrt((apart**2).sum(axis=1))
    length[length == 0] = np.inf
    mean = np.asarray(matrix.sum(axis=1)).ravel() / np.maximum(degree, 1)
    above = matrix.data - np.repeat(mean, degree)
    columns = np.arange(matrix.nnz)
    weights = sparse.csr_matrix((above / length, columns, matrix.indptr), shape=(len(x), matrix.nnz))
    return weights @ apart


def arrow_factor(x: np.ndarray, velocity: np.ndarray) -> float:
    """A third of the factor by which matplotlib's ``quiver`` scales arrows with ``angles="xy"``, in two dimensions."""
    extent = np.maximum(np.ptp(x[:, :2], axis=0), 1e-12) * MARGIN
    in_plot = velocity[:, :2] / extent * np.array([1, PLOT[1] / PLOT[0]])
    mean = np.sqrt((in_plot**2).sum(axis=1)).mean()
    return float(1 / (3 * 1.8 * mean * max(10, np.sqrt(len(x))))) if mean > 0 else 1.0
