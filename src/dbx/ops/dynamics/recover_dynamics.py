"""Kinetic rates of genes, and the time of each gene in each cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import dense
from dbx.ops.checks import check_above_zero, check_whole
from dbx.ops.dynamics.adjacency import neighbour_mean
from dbx.ops.dynamics.kinetic_states import NearestStates, nearest_states
from dbx.ops.dynamics.kinetic_values import NAMES
from dbx.ops.dynamics.lines import steady_lines
from dbx.ops.dynamics.marks import truth_of
from dbx.ops.dynamics.raw_counts import RawCounts
from dbx.ops.dynamics.recovered import recovered
from dbx.ops.dynamics.splicing import Curve
from dbx.ops.dynamics.velocity_genes import chosen_genes
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Reference, silent
from dbx.ops.values import Array, Edges, Graph

RATES = ("alpha", "beta", "gamma", "t_", "scaling")
OF_GENES = (*RATES, *NAMES)
FOR_LINES = (5.0, 95.0), (0.0,)
"""Percentiles beyond which cells are used for the slope and for R2, by which genes are chosen."""


IN_CACHE = 1 << 17
"""Values of all cells that are computed with at once."""


class RecoverDynamics(Operator):
    """u' = alpha - beta scaling u and s' = beta scaling u - gamma s, with alpha = 0 after the switch.

    u are unspliced counts over ``scaling``, s spliced counts. Each cell has the time at which the curve is nearest to
    it, in standard deviations of both counts; whether that is before or after the switch is decided by the cell and its
    neighbours. The parameters maximise the Gaussian likelihood of the distances, with penalties on the logarithms of
    gamma / beta about the ratio of the highest counts, of the scaling about the median over genes, and of the switch.
    Times of genes are on one scale, where velocities explain displacements between neighbours. All rates are trainable.

    Bergen et al., Nature Biotechnology, 2020. The reference implementation is ``scvelo.tl.recover_dynamics``.

    New cells: the nearest points of the reference's curves; neighbours among the reference cells.
    """

    name = "recover_dynamics"
    inputs: ClassVar = {
        "ms": Input(genes=True),
        "mu": Input(genes=True),
        "graph": Input(kind="graph"),
        "steady": Input(kind="columns", optional=True, of_fitted_cells=True),
    }
    outputs: ClassVar = {
        "time": Output(),
        "speed": Output(),
        **{name: Output(axis="genes", dtype="float64", view=True) for name in OF_GENES},
    }
    result = "time"
    rowwise = True
    host = True
    in_pieces = True
    precision = "float64"
    unlisted: ClassVar = frozenset({"genes"})
    references: ClassVar = {"ms_cells": "ms", "mu_cells": "mu"}
    kept: ClassVar[tuple[str, ...]] = OF_GENES
    """What is known of each gene."""
    trained: ClassVar[tuple[str, ...]] = RATES

    def __init__(
        self,
        *,
        genes: tuple[int, ...] | None = None,
        max_iter: int = 10,
        t_max: float = 20.0,
        fit_scaling: bool | float = True,
        fit_basal_transcription: bool = False,
    ):
        self.genes = genes
        self.max_iter = max_iter
        self.t_max = t_max
        self.fit_scaling = fit_scaling
        self.fit_basal_transcription = fit_basal_transcription
        check_whole(max_iter, 1, "max_iter")
        check_above_zero(t_max, "t_max")
        if not isinstance(fit_scaling, bool | np.bool_):
            check_above_zero(fit_scaling, "fit_scaling")

    @property
    def known_scaling(self) -> float | None:
        """The scaling that is not fitted; None where it is."""
        return None if self.fit_scaling is True else float(self.fit_scaling or 1)

    def fit(
        self,
        *,
        ms: RowBlocks,
        mu: RowBlocks,
        graph: sparse.csr_matrix,
        steady: dict[str, Any] | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Fit the curves, and set the clocks of genes."""
        genes, r2 = self._wanted(ms, mu)
        self._recover(ms, mu, graph, genes, r2, steady, seed, progress)
        self.ms_cells, self.mu_cells = Reference(ms.dense()), Reference(mu.dense())

    def _wanted(self, ms: RowBlocks, mu: RowBlocks) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the genes to fit, and R2 of their steady-state lines."""
        line, through_all = (
            steady_lines(ms, mu, np.ones(ms.n_rows, bool), percentiles, offset=False) for percentiles in FOR_LINES
        )
        line = line._replace(r2=through_all.r2)
        if self.genes is None:
            genes = np.flatnonzero(chosen_genes(ms, mu, line, min_r2=0.01, min_ratio=0.01))
        else:
            genes = np.asarray(self.genes, np.intp)
        return genes, line.r2[genes]

    def _recover(
        self,
        ms: RowBlocks,
        mu: RowBlocks,
        graph: sparse.csr_matrix,
        genes: np.ndarray,
        r2: np.ndarray,
        steady: dict[str, Any] | None,
        seed: int,
        progress: Progress,
        raw: RawCounts | None = None,
    ) -> None:
        """Fit these genes; set values of all, 1 where a gene has none, so that gradients are finite, too."""
        found = recovered(
            ms.select(genes),
            mu.select(genes),
            graph,
            max_iter=self.max_iter,
            scaling=self.known_scaling,
            basal=self.fit_basal_transcription,
            t_max=self.t_max,
            steady=None if not steady else marked(steady),
            seed=seed,
            progress=progress,
            raw=raw,
        )._replace(r2=r2)
        fitted = np.zeros(ms.n_columns, bool)
        fitted[genes[np.isfinite(found.alpha)]] = True
        self.fitted = Constant(fitted)
        for name in self.kept:
            values = np.ones(ms.n_columns)
            values[genes] = np.nan_to_num(getattr(found, name), nan=1.0)
            setattr(self, f"{name}_of", (nnx.Param if name in self.trained else Constant)(values))

    def __call__(self, ms, mu, graph: Graph | Edges, steady=None) -> dict[str, Array]:
        """Times, and time derivatives of spliced counts, two arrays of shape (n_cells, n_genes)."""
        del steady
        if not isinstance(graph, Edges):
            found = self._states(ms, mu, graph)
            return {name: jnp.where(self.fitted[...], value, jnp.nan) for name, value in self._outputs(found).items()}
        genes = np.flatnonzero(np.asarray(self.fitted.get_value()))
        made: dict[str, Array] = {name: np.full(ms.shape, np.nan, np.float32) for name in ("time", "speed")}
        for at in range(0, len(genes), at_once := max(IN_CACHE // max(len(self.ms_cells.get_value()), 1), 16)):
            part = genes[at : at + at_once]
            for name, value in self._outputs(
                self._states(dense(ms)[:, part], dense(mu)[:, part], graph, part), part
            ).items():
                made[name][:, part] = value
        return made

    def loss(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]):
        """Mean negative log-likelihood over the fitted genes, of each cell."""
        found = self._states(inputs["ms"], inputs["mu"], inputs["graph"])
        variance = self._value("variance")
        each = found.square / (2 * variance) + jnp.log(2 * np.pi * variance) / 2
        return (each * self.fitted[...]).sum(axis=1) / jnp.maximum(self.fitted[...].sum(), 1)

    def curve(self, genes: np.ndarray | None = None) -> Curve:
        """The curves in standard deviations of counts, and in units of the splicing time."""
        alpha, beta, gamma, t_, scaling = (self._value(name, genes) for name in RATES)
        rate = beta * scaling
        top_u, top_s = alpha * scaling / rate, alpha / gamma
        return Curve(top_u / self._value("std_u", genes), top_s / self._value("std_s", genes), gamma / rate, t_ * rate)

    def _states(self, ms, mu, graph: Graph | Edges, genes: np.ndarray | None = None) -> NearestStates:
        curve = self.curve(genes)
        own = self._nearest(curve, ms, mu, genes)
        stored = (self.ms_cells.get_value(), self.mu_cells.get_value())
        if isinstance(graph, Edges) and len(ms) == len(stored[0]) and (graph.rows == np.arange(len(ms))).all():
            others = own
        else:
            ms, mu = stored if genes is None else (stored[0][:, genes], stored[1][:, genes])
            others = self._nearest(curve, ms, mu, genes)
        preferred = neighbour_mean(own.preferred, others.preferred, graph)[0]
        return own.chosen(preferred)

    def _nearest(self, curve: Curve, ms, mu, genes: np.ndarray | None):
        x = (wide(mu) - self._value("u0", genes)) / self._value("std_u", genes)
        y = (wide(ms) - self._value("s0", genes)) / self._value("std_s", genes)
        return nearest_states(curve, x, y)

    def _outputs(self, found: NearestStates, genes: np.ndarray | None = None) -> dict[str, Array]:
        rate = self._value("beta", genes) * self._value("scaling", genes)
        speed = found.speed(self.curve(genes), self._value("variance", genes))
        return {
            "time": found.total_time(self.curve(genes)) / rate,
            "speed": speed * rate * self._value("std_s", genes),
        }

    def _value(self, name: str, genes: np.ndarray | None = None) -> Array:
        variable = getattr(self, f"{name}_of")
        return variable[...] if genes is None else np.asarray(variable.get_value())[genes]

    def _view(self, name: str) -> np.ndarray:
        return np.where(np.asarray(self.fitted[...]), np.asarray(self._value(name)), np.nan)


def view_of(name: str) -> property:
    """What is known of each gene, NaN where it is not fitted."""
    return property(lambda self: self._view(name), doc=f"The value of ``fit_{name}`` of each gene; NaN where none is.")


for _name in OF_GENES:
    setattr(RecoverDynamics, _name, view_of(_name))


def wide(x) -> Array:
    """In float64 on the host, as it is on a device."""
    return x if isinstance(x, jax.Array) else np.asarray(dense(x), np.float64)


def marked(columns: dict[str, Any]) -> np.ndarray:
    """Cells that a column marks, an array of shape (n_cells,), bool.

    Raises
    ------
    ValueError
        The column is not boolean.
    """
    (name, values), *_ = columns.items()
    truth = truth_of(values)
    if truth is None:
        msg = f"steady_state_prior={name!r} must be a column of True and False."
        raise ValueError(msg)
    return truth
