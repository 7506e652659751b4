"""MAGIC: expression averaged over the cells that random walks of some steps reach."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy import sparse

from dbx._warnings import warn
from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import array_library, as_float
from dbx.ops.checks import check_known, check_whole, check_whole_or_auto
from dbx.ops.components.principal_axes import n_axes_of, principal_axes
from dbx.ops.diffusion import markov
from dbx.ops.diffusion.smoothing import MAX_STEPS, SETTLED, smoothing_curve
from dbx.ops.diffusion.walks import edge_shares
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Reference, Unit, silent
from dbx.ops.values import Array, Graph

Solver = Literal["exact", "approximate"]


class Magic(Operator):
    """M^t X for the row-normalised weights M of a graph: each value is its mean over walks of ``t`` steps.

    Trainable is how many steps: the weights of a mixture of M^0 X to M^(2 t) X, at first 1 for M^t X. What training
    moves is divided by its sum, numbers below zero counting as zero.

    ``t="auto"`` takes one step more than the first that changes the values by a Procrustes disparity below .001.
    ``solver="approximate"`` diffuses ``n_pca`` principal components of X and projects them back, at zero where X has no
    negative value; ``columns`` are then the genes that are returned, by number.

    Called for all fitted cells in their order, the result is a differentiable function of all weights and values; other
    cells average what is stored of the fitted ones.

    van Dijk et al., Cell 2018. The reference implementation is magic-impute.

    New cells: M^(t - 1) X of the reference cells, averaged by the weights of their edges; with trained steps the
    mixture of one power less each, and the cell's own values with the weight of M^0.
    """

    name = "magic"
    inputs: ClassVar = {"values": Input(genes=True), "graph": Input(kind="graph")}
    outputs: ClassVar = {
        "imputed": Output(),
        "previous": Output(view=True, inference=True),
        "steps": Output(axis="none", dtype=None, view=True),
        "errors": Output(axis="none", dtype="float64", view=True),
        "powers": Output(axis="none", dtype="float64", view=True),
    }
    rowwise = True
    resumes = True
    of_all_cells = True
    references: ClassVar = {"one_step_less": "previous"}
    unlisted = frozenset({"n_steps", "columns"})

    def __init__(
        self,
        *,
        t: int | Literal["auto"] = 3,
        solver: Solver = "exact",
        n_pca: int | None = 100,
        columns: tuple[int, ...] | None = None,
        n_steps: int | None = None,
    ):
        check_whole_or_auto(t, 1, "t")
        check_known(solver, get_args(Solver), "solver")
        if n_pca is not None:
            check_whole(n_pca, 1, "n_pca")
        self.t = t
        self.solver = solver
        self.n_pca = n_pca
        self.columns = columns
        self.n_steps = n_steps

    def fit(self, *, values: RowBlocks, graph: sparse.csr_matrix, seed: int = 0, progress: Progress = silent) -> None:
        """Diffuse the values of all cells by one step less, with the weights of the steps that are there."""
        markov.check_weights(graph)
        walk = markov.row_normalised(graph)
        given = self._components(values, seed) if self.solver == "approximate" else values.rows(slice(None))
        curve = smoothing_curve(walk, given, seed=seed) if self.t == "auto" else np.zeros(0)
        self.curve = Constant(curve)
        self.n_steps = len(curve) + 1 if self.t == "auto" else self.t
        if len(curve) == MAX_STEPS and curve[-1] >= SETTLED:
            self.n_steps = MAX_STEPS
            warn(
                f"{MAX_STEPS} steps still change the values (Procrustes disparity {curve[-1]:.2g}): t={MAX_STEPS} is "
                "used. Pass a smaller t, such as the default 3, for values that are less smoothed."
            )
        if not hasattr(self, "shares"):
            self.shares = nnx.Param(as_float(np.eye(1, 2 * self.n_steps + 1, self.n_steps)[0]))
        self.one_step_less = Reference(markov.mixed_powers(walk, given, self.powers[1:], dtype=np.float32))

    def _components(self, values: RowBlocks, seed: int) -> np.ndarray:
        """Scores of all cells, an array of shape (n_cells, n_pca)."""
        n_comps = n_axes_of(self.n_pca, values.n_rows, values.n_columns)
        axes = principal_axes(values, n_comps, seed=seed)
        directions = axes.directions.astype(np.float32)
        chosen = slice(None) if self.columns is None else np.asarray(self.columns)
        scores, lowest = np.empty((values.n_rows, n_comps), np.float32), 0.0
        shift = axes.mean.astype(np.float32) @ directions
        for start, stop, rows in values.parts():
            scores[start:stop] = rows @ directions - shift
            lowest = min(lowest, float(rows.min()))
        self.mean = Constant(axes.mean[chosen].astype(np.float32))
        self.directions = Constant(directions[chosen])
        self.nonnegative = Constant(np.bool_(lowest >= 0))
        self.axes, self.centre = Constant(directions), Constant(axes.mean.astype(np.float32))
        return scores

    def on_host(self, inputs) -> dict[str, Any]:
        """One step from what is stored, as a product with a sparse matrix."""
        walk = markov.row_normalised(inputs["graph"].matrix).astype(np.float32)
        diffused = walk @ np.asarray(self.one_step_less[...])
        if own := np.float32(self.powers[0]):
            for start, stop, rows in inputs["values"].parts():
                diffused[start:stop] += own * self._start(np.asarray(rows, np.float32))
        return {"imputed": self._projected(diffused)}

    def __call__(self, values: Array, graph: Graph) -> dict[str, Array]:
        """Imputed values of cells, an array of shape (n_cells, n_columns)."""
        before = jnp.asarray(self.one_step_less[...]).astype(values.dtype)
        weights = edge_shares(jnp.asarray(graph.weights, values.dtype))
        walk = Graph(graph.indices, weights, graph.rows, graph.n_reference)
        start, shares = self._start(values), self._shares().astype(values.dtype)

        def some():
            return markov.neighbour_sums(walk, before) + shares[0] * start

        def everything():
            def further(diffused, share):
                return markov.neighbour_sums(walk, diffused) + share * start, None

            return jax.lax.scan(further, jnp.zeros_like(start), shares[::-1])[0]

        if len(graph) == graph.n_reference:
            ordered = jnp.array_equal(graph.rows, jnp.arange(graph.n_reference))
            return {"imputed": self._projected(jax.lax.cond(ordered, everything, some))}
        return {"imputed": self._projected(some())}

    def _start(self, values):
        """What is diffused: values, or their components with the approximate solver."""
        if self.solver == "exact":
            return values
        xp = array_library(values)
        return (values - xp.asarray(self.centre[...])) @ xp.asarray(self.axes[...])

    def _shares(self) -> jax.Array:
        """Weights of M^0, M^1, ..., which sum to 1; one of them in programs from before they were trainable."""
        if not hasattr(self, "shares"):
            steps = int(self.n_steps or 0)
            return jnp.eye(1, steps + 1, steps)[0]
        kept = jnp.maximum(self.shares[...], 0)
        return kept / jnp.maximum(kept.sum(), 1e-12)

    @property
    def units(self) -> dict[str, Unit]:
        """Ten times the usual step size: a hundred minibatches can replace one power by another."""
        return {"shares": Unit(1.0, 10.0)}

    def _projected(self, diffused):
        """Values of genes, from diffused components with the approximate solver."""
        if self.solver == "exact":
            return diffused
        xp = array_library(diffused)
        directions, mean = (xp.asarray(part[...]).astype(diffused.dtype) for part in (self.directions, self.mean))
        found = diffused @ directions.T + mean
        return xp.where(xp.asarray(self.nonnegative[...]), xp.maximum(found, 0), found)

    @property
    def previous(self) -> np.ndarray:
        """M^(t - 1) X, or the components that are diffused by as many steps, of the fitted cells."""
        return np.asarray(self.one_step_less[...])

    @property
    def steps(self) -> int:
        """Number of steps t."""
        return int(np.asarray(self.n_steps))

    @property
    def errors(self) -> np.ndarray:
        """Change by each step from the first on, an array of shape (n_steps,); empty unless ``t="auto"``."""
        return np.asarray(self.curve[...])

    @property
    def powers(self) -> np.ndarray:
        """Weights of M^0 X, M^1 X, ... in the result, an array of shape (2 t + 1,)."""
        return np.asarray(self._shares(), np.float64)
