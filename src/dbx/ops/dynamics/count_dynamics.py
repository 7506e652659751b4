"""Kinetic rates of genes, and the time of each gene in each cell, by the likelihood of counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import array_library, row_sums
from dbx.ops.dynamics.adjacency import neighbour_mean
from dbx.ops.dynamics.count_likelihood import of_states
from dbx.ops.dynamics.count_states import (
    CountModel,
    Counts,
    CountStates,
    at_points,
    genes_at_once,
    points_of,
    states_of,
    weights_of,
)
from dbx.ops.dynamics.raw_counts import raw_counts, sizes_of
from dbx.ops.dynamics.recover_dynamics import OF_GENES, RecoverDynamics, view_of, wide
from dbx.ops.operator import Constant, Input, Output, Progress, Reference, silent
from dbx.ops.values import Array, Edges, Graph

THETAS = ("theta_u", "theta_s")
OF_COUNTED_GENES = (*(name for name in OF_GENES if name != "variance"), *THETAS)


class CountDynamics(RecoverDynamics):
    """Kinetics as of ``recover_dynamics``, by the negative binomial likelihood of the counts of each cell.

    The mean of a count is the level of the gene's curve times the size of the cell, its total over the median one, in
    unspliced and in spliced counts; both have an inverse dispersion of each gene. The fit starts from that to the
    moments. Times have weights by the counts of the cell and by those of its neighbours, parameters and dispersions
    are then improved by Fisher's scoring and Newton's steps. All rates and dispersions are trainable.

    Bergen et al., Nature Biotechnology, 2020, with other likelihoods.

    New cells: times on the reference's curves by their own counts and those of their neighbours among the reference
    cells.
    """

    name = "count_dynamics"
    inputs: ClassVar = {
        "ms": Input(genes=True),
        "mu": Input(genes=True),
        "spliced": Input(genes=True, content=("counts",)),
        "unspliced": Input(genes=True, content=("counts",)),
        "graph": Input(kind="graph"),
        "steady": Input(kind="columns", optional=True, of_fitted_cells=True),
    }
    outputs: ClassVar = {
        "time": Output(),
        "speed": Output(),
        **{name: Output(axis="genes", dtype="float64", view=True) for name in OF_COUNTED_GENES},
    }
    kept: ClassVar[tuple[str, ...]] = OF_COUNTED_GENES
    trained: ClassVar[tuple[str, ...]] = (*RecoverDynamics.trained, *THETAS)

    def fit(  # type: ignore[override]  # counts besides moments
        self,
        *,
        ms: RowBlocks,
        mu: RowBlocks,
        spliced: RowBlocks,
        unspliced: RowBlocks,
        graph: sparse.csr_matrix,
        steady: dict[str, Any] | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Fit the curves, and set the clocks of genes."""
        genes, r2 = self._wanted(ms, mu)
        raw, medians = raw_counts(unspliced, spliced, genes)
        self.unspliced_total, self.spliced_total = (Constant(np.asarray(x, np.float64)) for x in medians)
        self._recover(ms, mu, graph, genes, r2, steady, seed, progress, raw)
        self.ms_cells, self.mu_cells = Reference(ms.dense()), Reference(mu.dense())

    def __call__(  # type: ignore[override]  # counts besides moments
        self, ms, mu, spliced, unspliced, graph: Graph | Edges, steady=None
    ) -> dict[str, Array]:
        """Times, and time derivatives of spliced counts, two arrays of shape (n_cells, n_genes)."""
        del steady
        data = self._cells(ms, mu, spliced, unspliced, graph)
        if not isinstance(graph, Edges):
            found = self._outputs_of(self._found(*data))
            return {name: jnp.where(self.fitted[...], value, jnp.nan) for name, value in found.items()}
        genes = np.flatnonzero(np.asarray(self.fitted.get_value()))
        made: dict[str, Array] = {name: np.full(ms.shape, np.nan, np.float32) for name in ("time", "speed")}
        for at in range(0, len(genes), at_once := genes_at_once(len(made["time"]))):
            part = genes[at : at + at_once]
            for name, value in self._outputs_of(self._found(*data, part), part).items():
                made[name][:, part] = value
        return made

    def loss(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]):
        """Mean negative log-probability of the counts of the fitted genes, of each cell."""
        names = ("ms", "mu", "spliced", "unspliced", "graph")
        counts, near = self._cells(*(inputs[name] for name in names))
        found = self._found(counts, near)
        each = -of_states(self._model(), found, self._levels(counts)) * self.fitted[...]
        return each.sum(axis=1) / jnp.maximum(self.fitted[...].sum(), 1)

    def _model(self, genes: np.ndarray | None = None) -> CountModel:
        low = (self._value(f"{name}0", genes) / self._value(f"std_{name}", genes) for name in ("u", "s"))
        return CountModel(self.curve(genes), *low, *(self._value(name, genes) for name in THETAS))

    def _cells(self, ms, mu, spliced, unspliced, graph: Graph | Edges) -> tuple[Counts, Counts]:
        """Counts and sizes of cells, and the means of their neighbourhoods, in a cell of median size."""
        spliced, unspliced = wide(spliced), wide(unspliced)
        sizes = (
            sizes_of(row_sums(x), total[...] if isinstance(x, jax.Array) else np.asarray(total.get_value()))[:, None]
            for x, total in ((unspliced, self.unspliced_total), (spliced, self.spliced_total))
        )
        mean_u = neighbour_mean(wide(mu), wide(self.mu_cells.get_value()), graph)[0]
        mean_s = neighbour_mean(wide(ms), wide(self.ms_cells.get_value()), graph)[0]
        one = array_library(mean_u).ones((1, 1), mean_u.dtype)
        return Counts(unspliced, spliced, *sizes), Counts(mean_u, mean_s, one, one)

    def _levels(self, counts: Counts, genes: np.ndarray | None = None) -> Counts:
        """Of some genes, with levels in their standard deviations."""
        u, s = counts[:2] if genes is None else (x[:, genes] for x in counts[:2])
        return Counts(u, s, counts.size_u * self._value("std_u", genes), counts.size_s * self._value("std_s", genes))

    def _found(self, counts: Counts, near: Counts, genes: np.ndarray | None = None) -> CountStates:
        model = self._model(genes)
        points = points_of(model)
        own, around = (at_points(model, points, self._levels(x, genes)) for x in (counts, near))
        return states_of(model, points, weights_of(own, around))

    def _outputs_of(self, found: CountStates, genes: np.ndarray | None = None) -> dict[str, Array]:
        rate = self._value("beta", genes) * self._value("scaling", genes)
        return {
            "time": found.total_time(self.curve(genes)) / rate,
            "speed": found.speed * rate * self._value("std_s", genes),
        }


for _name in THETAS:
    setattr(CountDynamics, _name, view_of(_name))
