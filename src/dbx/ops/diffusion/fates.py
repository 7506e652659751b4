"""Fate probabilities: where random walks from each cell end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, get_args

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx._warnings import warn
from dbx.ops.arrays import array_library
from dbx.ops.checks import check_above_zero, check_known, listed
from dbx.ops.diffusion.absorption import AbsorbingWalk, Solver, without_columns
from dbx.ops.diffusion.host_walks import host_transitions
from dbx.ops.diffusion.markov import check_weights, row_sums
from dbx.ops.diffusion.settled import settled
from dbx.ops.diffusion.walk_operator import WalkOperator, one_column, padded_transitions
from dbx.ops.diffusion.walks import Kernel, Scheme, completed, edge_shares
from dbx.ops.operator import Constant, Input, Output, Progress, Reference, silent
from dbx.ops.ragged import RaggedGraph
from dbx.ops.values import Array, Codes, Edges, Graph

ROUNDING = 100
"""Weights of edges that differ from the stored ones by so many units of rounding count as the same."""


class FateProbabilities(WalkOperator):
    """Probability that a random walk from a cell stops at each end first, and the number of steps it takes.

    The walk follows the edges of a graph: by their density-normalised weights (``kernel="connectivity"``), by the
    weights of edges to later cells with those to earlier ones damped or dropped (``"pseudotime"``), or by the rows of
    the graph itself (``"given"``). Ends are the cells with one of the ``ends``. Cells that reach no end have NaN, and
    no walk enters them. ``solver`` and ``tol`` are those of :class:`dbx.ops.diffusion.absorption.AbsorbingWalk`.

    Called for all fitted cells in their order, fates are a differentiable function of all weights (and, with the soft
    scheme, of pseudotime), by the transposed system; other calls give back what is stored of fitted cells.

    Lange et al., Nature Methods 2022. The reference implementation is CellRank 2.

    New cells: the mean of their reference neighbours' fates, weighted by transition probabilities.
    """

    name = "fate_probabilities"
    inputs: ClassVar = {
        "graph": Input(kind="graph", ragged=True),
        "ends": Input(kind="codes", missing=True, unseen="missing", of_fitted_cells=True),
        "time": Input(kind="columns", optional=True),
    }
    outputs: ClassVar = {
        "fates": Output(dtype="float64", levels=True),
        "steps": Output(dtype="float64"),
        "states": Output(dtype="category"),
        "confidence": Output(dtype="float64"),
        "priming": Output(dtype="float64"),
        "transitions": Output(dtype="float64"),
    }
    result = "fates"
    rowwise = True
    of_all_cells = True
    precision = "float64"

    def __init__(
        self,
        *,
        kernel: Kernel = "pseudotime",
        scheme: Scheme = "hard",
        frac_to_keep: float = 0.3,
        b: float = 10.0,
        nu: float = 0.5,
        weight_connectivities: float = 0.0,
        solver: Solver = "auto",
        tol: float = 1e-6,
        levels: tuple[str, ...] = (),
    ):
        super().__init__(
            kernel=kernel,
            scheme=scheme,
            frac_to_keep=frac_to_keep,
            b=b,
            nu=nu,
            weight_connectivities=weight_connectivities,
        )
        check_known(solver, get_args(Solver), "solver")
        check_above_zero(tol, "tol")
        self.solver = solver
        self.tol = tol
        self.levels = levels

    @property
    def references(self) -> Mapping[str, str]:
        """What is stored of the fitted cells: their edges, fates, steps and, with a kernel of it, pseudotime."""
        kept = {"edges": "graph", "stored_fates": "fates", "stored_steps": "steps"}
        kept["stored_confidence"] = "confidence"
        return {**kept, "times": "time"} if self.kernel == "pseudotime" else kept

    def fit(
        self,
        *,
        graph: sparse.csr_matrix,
        ends: Codes,
        time: Mapping[str, np.ndarray] | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Solve for the fates of all cells of a graph of shape (n_cells, n_cells)."""
        codes, self.levels = present_ends(ends)
        check_weights(graph)
        self.edges = Reference(RaggedGraph.from_csr(graph))
        if self.kernel == "pseudotime":
            times = one_column(time)
            self.fit_scale(times)
            self.times = Reference(times)
        found = AbsorbingWalk(
            self.all_transitions(graph, time), codes, len(self.levels), self.solver, self.tol
        ).absorbed()
        self.stored_fates = Reference(found.fates)
        self.stored_steps = Reference(found.steps)
        self.stored_confidence = Reference((codes >= 0).astype(np.float64))
        _warn(found.fates, codes, self.levels)
        self.residual = Constant(np.float64(found.residual))
        self.mean_fate = Constant(np.nanmean(found.fates, axis=0))

    def on_host(self, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
        """What is stored of fitted cells, and new cells by their neighbours; None if all are there with other edges."""
        graph, rows = inputs["graph"].matrix, np.asarray(inputs["graph"].rows)
        edges, fates, steps = (x.get_value() for x in (self.edges, self.stored_fates, self.stored_steps))
        fates, steps = np.asarray(fates, np.float64), np.asarray(steps, np.float64)
        here = times = None
        if self.kernel == "pseudotime":
            here = np.asarray(self.scaled(one_column(inputs["time"])), np.float64)
            times = np.asarray(self.scaled(np.asarray(self.times[...])), np.float64)
        density = row_sums(edges.to_csr().astype(np.float64))
        found = host_transitions(graph, here, times, density, self.walk)
        ahead = without_columns(found, np.isnan(fates[:, 0]))
        if np.array_equal(rows, np.arange(len(fates))) and self._changed(ahead, fates, steps, graph.dtype):
            return None
        kept = [x[np.maximum(rows, 0)] for x in (fates, steps)]
        new = np.flatnonzero(rows < 0)
        if len(new):
            for old, placed in zip(kept, _ahead(ahead[new], fates, steps), strict=True):
                old[new] = placed
        return self._outputs(rows, kept[0], kept[1], Edges(found, rows))

    def _changed(self, ahead: sparse.csr_matrix, fates: np.ndarray, steps: np.ndarray, dtype: Any) -> bool:
        """Whether what is stored does not solve the system of these transitions."""
        values, free = np.nan_to_num(np.column_stack([fates, steps[:, 0]])), steps[:, 0] > 0
        apart = (ahead @ values - values)[free]
        apart[:, -1] = (apart[:, -1] + 1) / max(values[:, -1].max(), 1)
        threshold = ROUNDING * np.finfo(dtype).eps + 4 * float(self.residual[...])
        return bool(np.abs(apart).max(initial=0) > threshold)

    def __call__(self, graph: Graph, ends: Codes | None = None, time: Mapping[str, Array] | None = None):
        """Fates, steps, ends, degree of priming and transitions of cells; ``ends`` is only used by ``fit``."""
        del ends
        edges, fates, steps = (x.get_value() for x in (self.edges, self.stored_fates, self.stored_steps))
        fates, steps = jnp.asarray(fates), jnp.asarray(steps)
        dtype, rounding = fates.dtype, jnp.finfo(graph.weights.dtype).eps
        graph = _as_float(graph, dtype)
        density = edges.row_sums(dtype)
        here = times = None
        if self.kernel == "pseudotime":
            times = self.scaled(jnp.asarray(self.times[...], dtype))
            here = self.scaled(jnp.asarray(one_column(time), dtype))
        weights = padded_transitions(graph, here, times, density, self.walk)
        fitted = graph.rows >= 0
        own = jnp.maximum(graph.rows, 0)
        kept = tuple(x[own] for x in (fates, steps))

        def with_new():
            placed = _placed(graph, weights, fates, steps)
            return tuple(jnp.where(fitted[:, None], old, new) for old, new in zip(kept, placed, strict=True))

        def some():
            return jax.lax.cond(fitted.all(), lambda: kept, with_new)

        def everything():
            whole = completed(graph, _as_float(edges.padded(), dtype)) if graph.symmetric else graph
            of_whole = whole.weights.sum(axis=1)
            transitions = padded_transitions(whole, here, here, of_whole, self.walk)
            threshold = ROUNDING * rounding + 4 * jnp.asarray(self.residual[...], dtype)
            return settled(_towards(whole, transitions, fates), whole.indices, fates, steps, threshold)

        if len(graph) == graph.n_reference:
            ordered = jnp.array_equal(graph.rows, jnp.arange(graph.n_reference))
            fates_here, steps_here = jax.lax.cond(ordered, everything, some)
        else:
            fates_here, steps_here = some()
        transitions = Graph(graph.indices, weights, graph.rows, graph.n_reference)
        return self._outputs(graph.rows, fates_here, steps_here, transitions)

    def _outputs(self, rows, fates, steps, transitions: Graph | Edges) -> dict[str, Any]:
        xp, dtype = array_library(fates), fates.dtype
        fitted = rows >= 0
        end = fitted & (steps[:, 0] == 0)
        states = xp.where(end, xp.nan_to_num(fates).argmax(axis=1), -1).astype(np.int32)
        mean, confidence = (xp.asarray(x[...]).astype(dtype) for x in (self.mean_fate, self.stored_confidence))
        return {
            "fates": fates,
            "steps": steps,
            "states": Codes(states, self.levels),
            "confidence": xp.where(fitted, confidence[xp.maximum(rows, 0)], 0),
            "priming": _entropy(mean[None])[0] - _entropy(fates),
            "transitions": transitions,
        }


def present_ends(ends: Codes) -> tuple[np.ndarray, tuple[str, ...]]:
    """(end of each cell, -1 for transient ones; names of the ends).

    Raises
    ------
    ValueError
        An end has no cell, or there is none.
    """
    codes = np.asarray(ends.codes)
    counts = np.bincount(codes[codes >= 0], minlength=ends.n_levels)
    empty = [level for level, count in zip(ends.levels, counts, strict=True) if count == 0]
    if empty or not ends.n_levels:
        what = f"The terminal state {empty[0]!r} has no cell" if empty else "No cell is in a terminal state"
        msg = f"{what}: name cells of it, or leave it out (adata.obs[column].cat.remove_unused_categories())."
        raise ValueError(msg)
    return codes, ends.levels


def _warn(fates: np.ndarray, codes: np.ndarray, levels: tuple[str, ...]) -> None:
    """Warn of cells that reach no end, of ends of one cell, and of an only end."""
    lost = int(np.isnan(fates[:, 0]).sum())
    if lost:
        warn(
            f"{lost} of {len(fates)} cells reach no terminal state: their fate probabilities are NaN, and no walk "
            "enters them. Name a terminal state among them, or compute neighbours with more n_neighbors."
        )
    if alone := [levels[code] for code in np.flatnonzero(np.bincount(codes[codes >= 0]) == 1)]:
        warn(
            f"One cell stands for the terminal state {listed(alone)}: fates towards it depend on the neighbours that "
            "it happens to have. Name more of its cells."
        )
    if len(levels) == 1:
        warn(
            f"There is one terminal state only, {levels[0]!r}: every cell that reaches it has the probability 1. Name "
            "a second one to compare fates."
        )


def _towards(graph: Graph, transitions: Array, fates: Array) -> Array:
    """Transitions to cells that reach an end, normalised again."""
    return edge_shares(jnp.where(jnp.isfinite(fates[:, 0])[graph.indices], transitions, 0))


def _placed(graph: Graph, transitions: Array, fates: Array, steps: Array) -> tuple[Array, Array]:
    """Fates and steps of cells from those of their neighbours one step ahead; NaN where no neighbour reaches an end."""
    ahead = _towards(graph, transitions, fates)
    fates, mean, variance = jnp.nan_to_num(fates), jnp.nan_to_num(steps[:, 0]), jnp.nan_to_num(steps[:, 1])
    reached = (ahead.sum(axis=1) > 0)[:, None]
    found = (ahead[..., None] * fates[graph.indices]).sum(axis=1)
    then = (ahead * mean[graph.indices]).sum(axis=1)
    spread = (ahead * (variance + mean**2)[graph.indices]).sum(axis=1) - then**2
    taken = jnp.stack([1 + then, jnp.maximum(spread, 0)], axis=1)
    return jnp.where(reached, found, jnp.nan), jnp.where(reached, taken, jnp.nan)


def _ahead(ahead: sparse.csr_matrix, fates: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`_placed`, of transitions that lead to cells that reach an end only."""
    fates, (mean, variance) = np.nan_to_num(fates), np.nan_to_num(steps).T
    reached = (row_sums(ahead) > 0)[:, None]
    then = ahead @ mean
    spread = ahead @ (variance + mean**2) - then**2
    taken = np.column_stack([1 + then, np.maximum(spread, 0)])
    return np.where(reached, ahead @ fates, np.nan), np.where(reached, taken, np.nan)


def _entropy(fates: Array) -> Array:
    xp = array_library(fates)
    positive = fates > 0
    logs = xp.log(xp.where(positive, fates, 1))
    return xp.where(xp.isnan(fates[:, 0]), xp.nan, -xp.where(positive, fates * logs, 0).sum(axis=1))


def _as_float(graph: Graph, dtype: Any) -> Graph:
    return Graph(
        jnp.asarray(graph.indices),
        jnp.asarray(graph.weights, dtype),
        jnp.asarray(graph.rows),
        graph.n_reference,
        graph.symmetric,
    )
