"""Exact principal components, with a trainable projection."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.ops.checks import check_known
from dbx.ops.components.principal_axes import principal_axes
from dbx.ops.components.projections import PROJECTIONS, orthonormal
from dbx.ops.nn import hard_concrete
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Unit, silent

N_COMPS = 50
STEP = 10.0
"""Step size of the residual, in sizes of the loadings: a hundredth of them at a learning rate of .001."""
OPEN_START = 0.98
"""Initial probability, with noise, that a component's gate is not zero."""


class PCA(Operator):
    """``z = (x - mean) @ (components + residual)``; the residual is trainable and starts at zero.

    With ``zero_center=False`` no mean is subtracted, and the components are the leading right singular vectors of x.
    ``projection="orthonormal"`` keeps the columns of ``components + residual`` orthonormal; ``"gated"`` gives each
    component a hard concrete gate, initially 1, so that their number is learned.

    New cells: the reference's means and loadings.
    """

    name = "pca"
    inputs: ClassVar = {"x": Input(genes=True)}
    outputs: ClassVar = {
        "z": Output(dtype=None, content="embedding"),
        "loadings": Output(axis="genes", dtype="float64", view=True),
        "variance": Output(axis="none", dtype=None, view=True),
        "variance_ratio": Output(axis="none", dtype=None, view=True),
    }
    rowwise = True
    role = "projection"

    def __init__(
        self,
        *,
        n_comps: int | None = None,
        zero_center: bool = True,
        dtype: Literal["float32", "float64"] = "float32",
        projection: Literal["free", "orthonormal", "gated"] = "free",
    ):
        check_known(projection, PROJECTIONS, "projection")
        self.n_comps = n_comps
        self.zero_center = zero_center
        self.dtype = self.precision = dtype
        self.projection = projection

    def fit(self, *, x: RowBlocks, seed: int = 0, progress: Progress = silent) -> None:
        """Find the leading axes exactly."""
        n_comps = self._allowed_comps(*x.shape)
        axes = principal_axes(x, n_comps, centre=self.zero_center, seed=seed)
        dtype = np.float32 if x.source.dtype == np.float32 else np.float64
        self.mean = Constant(axes.mean if self.zero_center else np.zeros_like(axes.mean))
        self.components = Constant(axes.directions)
        self.residual = nnx.Param(jnp.zeros(axes.directions.shape, jnp.float32))
        if self.projection == "gated":
            self.gates = nnx.Param(jnp.full(n_comps, hard_concrete.log_alpha_of(OPEN_START), jnp.float32))
        self.explained = Constant(axes.variance.astype(dtype))
        self.explained_share = Constant((axes.variance / (axes.total_variance or np.nan)).astype(dtype))

    def _allowed_comps(self, n_cells: int, n_genes: int) -> int:
        n_comps = min(N_COMPS, n_cells - 1, n_genes - 1) if self.n_comps is None else self.n_comps
        most = min(n_cells - self.zero_center, n_genes)
        if most < 1:
            msg = f"pca needs at least 2 cells; got {n_cells}."
            raise ValueError(msg)
        if 1 <= n_comps <= most:
            return n_comps
        msg = (
            f"n_comps={n_comps} is not possible with {n_cells} cells and {n_genes} genes: "
            f"choose n_comps from 1 to {most}."
        )
        raise ValueError(msg)

    def __call__(self, x):
        """Scores of cells."""
        return {"z": (x - self._mean(x)) @ self._projection(x)}

    def loss(self, inputs, outputs):
        """Squared distance of each cell to its reconstruction; the fit minimises its mean."""
        x = inputs["x"]
        rest = x - self._mean(x) - outputs["z"] @ self._projection(x).T
        return (rest**2).sum(axis=1)

    def settle(self, outputs):
        """Recompute the variances of the components after training."""
        if np.any(self.residual[...]) or self.projection == "gated":
            variance = np.var(np.asarray(outputs["z"], np.float64), axis=0, ddof=int(self.zero_center))
            total = np.asarray(self.explained[...]).sum() / np.asarray(self.explained_share[...]).sum()
            self.explained_share = Constant((variance / total).astype(self.explained_share.dtype))
            self.explained = Constant(variance.astype(self.explained.dtype))

    @property
    def units(self) -> dict[str, Unit]:
        """The unit of a component's residual is the spread of its scores; steps are relative to the loadings."""
        spread = np.sqrt(np.maximum(np.asarray(self.explained[...]), 1e-12))
        loadings = np.asarray(self.components[...]) / spread
        found = {"residual": Unit(spread, STEP * float(np.sqrt(np.mean(loadings**2))))}
        if self.projection == "gated":  # closing all gates is a distance of 1
            root = len(spread) ** 0.5
            found["gates"] = Unit(2 * hard_concrete.edge() * root, STEP / root)
        return found

    def jitter(self, key) -> dict[str, Any]:
        """Logistic noise on the gates of components."""
        if self.projection != "gated":
            return {}
        return {"gates": hard_concrete.noise(key, self.gates[...].shape)}

    def expected_open(self):
        """Expected fraction of components with an open gate, with noise."""
        if self.projection != "gated":
            msg = f'projection={self.projection!r} has no gates: use pca(adata, projection="gated").'
            raise ValueError(msg)
        return hard_concrete.probability_open(self.gates[...]).mean()

    def _mean(self, x):
        return jnp.asarray(self.mean[...], x.dtype)

    def _projection(self, x):
        projection = jnp.asarray(self.components[...], x.dtype) + self.residual[...].astype(x.dtype)
        if self.projection == "orthonormal":
            return orthonormal(projection)
        if self.projection == "gated":
            return projection * hard_concrete.gate(self.gates[...].astype(x.dtype))
        return projection

    @property
    def loadings(self) -> np.ndarray:
        """Array of shape (n_genes, n_comps) by which a cell's values are multiplied."""
        free = np.asarray(self.components[...]) + np.asarray(self.residual[...])
        if self.projection == "orthonormal":
            return np.asarray(orthonormal(free), free.dtype)
        if self.projection == "gated":
            return free * np.asarray(hard_concrete.gate(self.gates[...]), free.dtype)
        return free

    @property
    def variance(self) -> np.ndarray:
        """Array of shape (n_comps,): variance of the fitted cells along each component."""
        return np.asarray(self.explained[...])

    @property
    def variance_ratio(self) -> np.ndarray:
        """Array of shape (n_comps,): fraction of the variance of all genes."""
        return np.asarray(self.explained_share[...])
