"""Activity of regulators in cells, by the expression of their targets."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.data.moments import moments
from dbx.ops.arrays import as_float, like
from dbx.ops.checks import check_fraction, check_known
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.values import Array

METHODS = ("mean", "rank")


class GRNActivity(Operator):
    """Signed mean of the standardised targets of each regulator, or how many of them are among a cell's top genes.

    ``regulators[e]``, ``targets[e]`` and ``signs[e]`` are the number of the regulator, the column of the target and
    the sign of edge e. By ``"mean"`` targets are standardised by the moments of the fitted cells, and the weights of
    the edges are trainable, signs to begin with. By ``"rank"`` it is the area under the recovery curve of AUCell
    (Aibar et al., Nature Methods, 2017): activated targets among the genes of a cell sorted by falling expression, up
    to the fraction ``top`` of them, 1 if they are the first; genes that are not expressed are not counted.

    New cells: the same targets, standardised by the reference's moments.
    """

    name = "grn_activity"
    inputs: ClassVar = {"x": Input(genes=True)}
    outputs: ClassVar = {"activity": Output()}
    rowwise = True
    unlisted: ClassVar = frozenset({"regulators", "targets", "signs"})

    def __init__(
        self,
        *,
        regulators: tuple[int, ...],
        targets: tuple[int, ...],
        signs: tuple[int, ...],
        method: str = "mean",
        top: float = 0.05,
    ):
        check_known(method, METHODS, "method")
        check_fraction(top, "top")
        self.regulators, self.targets, self.signs = regulators, targets, signs
        self.method, self.top = method, top

    def fit(self, *, x: RowBlocks, seed: int = 0, progress: Progress = silent) -> None:
        """Moments of the genes, for the mean."""
        if self.method == "rank":
            return
        if x.n_rows < 2:
            msg = f"Genes are standardised over cells, of which at least 2 are needed; got {x.n_rows}."
            raise ValueError(msg)
        found = moments(x, np.zeros(x.n_rows, np.intp), 1)
        deviation = np.sqrt(found.variance[0])
        self.centre = Constant(as_float(found.mean[0]))
        self.scale = Constant(as_float(np.where(deviation > 0, deviation, 1)))
        sizes = np.bincount(self.regulators)[list(self.regulators)]
        self.weight = nnx.Param(as_float(np.asarray(self.signs) / sizes))

    def __call__(self, x: Array) -> dict[str, Any]:
        """Activity of each regulator, an array of shape (n_cells, n_regulators)."""
        if self.method == "rank":
            return {"activity": self._recovered(x)}
        z = (x - like(self.centre[...], x)) / like(self.scale[...], x)
        return {"activity": z @ self._matrix(like(self.weight[...], x), x.shape[1])}

    def _matrix(self, weight: Array, n_genes: int) -> Array:
        """Weights of the edges, an array of shape (n_genes, n_regulators)."""
        zeros = jnp.zeros((n_genes, max(self.regulators) + 1), weight.dtype)
        return zeros.at[list(self.targets), list(self.regulators)].add(weight)

    def _recovered(self, x: Array) -> Array:
        n_genes = x.shape[1]
        n_top = max(round(self.top * n_genes), 1)
        place = jnp.argsort(jnp.argsort(-x, axis=1, stable=True), axis=1)
        height = jnp.where(x > 0, jnp.maximum(n_top - place, 0), 0).astype(x.dtype)
        activated = jnp.asarray(np.asarray(self.signs) > 0, x.dtype)
        sizes = np.bincount(self.regulators, np.asarray(self.signs) > 0).astype(int)
        best = np.cumsum(n_top - np.arange(n_top))
        most = np.where(sizes > 0, best[np.clip(sizes, 1, n_top) - 1], 1)
        return height @ self._matrix(activated, n_genes) / jnp.asarray(most, x.dtype)

    def check_differentiable(self) -> None:
        """Ranks have no gradient."""
        if self.method == "rank":
            msg = 'Ranks have no gradient: use method="mean" of grn_activity.'
            raise ValueError(msg)
