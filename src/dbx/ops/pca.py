"""Principal components, exact, with a projection that training can move."""

from __future__ import annotations

from typing import ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Unit, silent
from dbx.ops.principal_axes import principal_axes

N_COMPS = 50
STEP = 10.0
"""Ten times the size of the loadings: a hundredth of it in a step at the usual learning rate of .001."""


class PCA(Operator):
    """``z = (x - mean) @ (components + residual)``; the residual starts at zero and is what training moves.

    With ``zero_center=False`` nothing is taken off, and the components are the leading right singular vectors of x.
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

    def __init__(
        self,
        *,
        n_comps: int | None = None,
        zero_center: bool = True,
        dtype: Literal["float32", "float64"] = "float32",
    ):
        self.n_comps = n_comps
        self.zero_center = zero_center
        self.dtype = self.precision = dtype

    def fit(self, *, x: RowBlocks, seed: int = 0, progress: Progress = silent) -> None:
        """Find the leading axes exactly."""
        n_comps = self._allowed_comps(*x.shape)
        axes = principal_axes(x, n_comps, centre=self.zero_center, seed=seed)
        dtype = np.float32 if x.source.dtype == np.float32 else np.float64
        self.mean = Constant(axes.mean if self.zero_center else np.zeros_like(axes.mean))
        self.components = Constant(axes.directions)
        self.residual = nnx.Param(jnp.zeros(axes.directions.shape, jnp.float32))
        self.explained = Constant(axes.variance.astype(dtype))
        self.explained_share = Constant((axes.variance / axes.total_variance).astype(dtype))

    def _allowed_comps(self, n_cells: int, n_genes: int) -> int:
        n_comps = min(N_COMPS, n_cells - 1, n_genes - 1) if self.n_comps is None else self.n_comps
        most = min(n_cells - self.zero_center, n_genes)
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
        """Squared distance of each cell to its reconstruction; its mean is least at the fit."""
        x = inputs["x"]
        rest = x - self._mean(x) - outputs["z"] @ self._projection(x).T
        return (rest**2).sum(axis=1)

    def settle(self, outputs):
        """Variances of the components as they are after training."""
        if np.any(self.residual[...]):
            variance = np.var(np.asarray(outputs["z"], np.float64), axis=0, ddof=1)
            total = np.asarray(self.explained[...]) / np.asarray(self.explained_share[...])
            self.explained_share = Constant((variance / total).astype(self.explained_share.dtype))
            self.explained = Constant(variance.astype(self.explained.dtype))

    @property
    def units(self) -> dict[str, Unit]:
        """The residual of a component goes by the spread of its scores, in steps relative to the loadings."""
        spread = np.sqrt(np.maximum(np.asarray(self.explained[...]), 1e-12))
        loadings = np.asarray(self.components[...]) / spread
        return {"residual": Unit(spread, STEP * float(np.sqrt(np.mean(loadings**2))))}

    def _mean(self, x):
        return jnp.asarray(self.mean[...], x.dtype)

    def _projection(self, x):
        return jnp.asarray(self.components[...], x.dtype) + self.residual[...].astype(x.dtype)

    @property
    def loadings(self) -> np.ndarray:
        """Array of shape (n_genes, n_comps): what a cell's values are multiplied with."""
        return np.asarray(self.components[...]) + np.asarray(self.residual[...])

    @property
    def variance(self) -> np.ndarray:
        """Array of shape (n_comps,): variance of the fitted cells along each component."""
        return np.asarray(self.explained[...])

    @property
    def variance_ratio(self) -> np.ndarray:
        """Array of shape (n_comps,): its share of the variance of all genes."""
        return np.asarray(self.explained_share[...])
