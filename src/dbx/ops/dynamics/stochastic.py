"""Velocity by the steady-state model of first and second moments."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import dense
from dbx.ops.dynamics.adjacency import neighbour_mean
from dbx.ops.dynamics.line_velocity import LineVelocity, fitting_cells
from dbx.ops.dynamics.lines import Line, Sums, extreme_cells, gene_blocks, ratio, steady_lines
from dbx.ops.dynamics.sizes import median_total, scaled
from dbx.ops.dynamics.velocity_genes import chosen_genes
from dbx.ops.operator import Constant, Input, Output, Progress, Reference, silent
from dbx.ops.values import Array, Codes, Edges, Graph


class StochasticVelocity(LineVelocity):
    """Gamma by generalised least squares of (u, 2 us + u) on (s, 2 ss - s), each over the sd of its residuals.

    u, s, us and ss are means over neighbours. The second moments of all cells count, and the first ones of cells that
    are extreme in s or in s + u. A gene whose velocity is not used keeps the gamma of the steady-state model.

    Bergen et al., Nature Biotechnology, 2020. The reference implementation is ``scvelo.tl.velocity``.

    New cells: the lines of the reference; second moments over the cell and its neighbours among the reference cells.
    """

    name = "stochastic_velocity"
    inputs: ClassVar = {
        **LineVelocity.inputs,
        "spliced": Input(genes=True, content=("counts", "normalized")),
        "unspliced": Input(genes=True, content=("counts", "normalized")),
        "graph": Input(kind="graph"),
    }
    outputs: ClassVar = {**LineVelocity.outputs, "variance_velocity": Output()}
    in_pieces = True
    references: ClassVar = {"spliced_cells": "spliced", "unspliced_cells": "unspliced"}

    def __init__(
        self,
        *,
        normalize: bool = True,
        fit_offset: bool = False,
        perc: tuple[float, ...] = (5.0, 95.0),
        min_r2: float = 0.01,
        min_ratio: float = 0.01,
        constrain_ratio: tuple[float, ...] | None = None,
        groups_for_fit: tuple[str, ...] | None = None,
    ):
        super().__init__(
            fit_offset=fit_offset,
            perc=perc,
            min_r2=min_r2,
            min_ratio=min_ratio,
            constrain_ratio=constrain_ratio,
            groups_for_fit=groups_for_fit,
        )
        self.normalize = normalize

    def fit(
        self,
        *,
        ms: RowBlocks,
        mu: RowBlocks,
        spliced: RowBlocks,
        unspliced: RowBlocks,
        graph: sparse.csr_matrix,
        groups: Codes | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Fit the steady-state model, and the genes that it chooses again with second moments."""
        cells = fitting_cells(groups, self.groups_for_fit, ms.n_rows)
        self.spliced_total = Constant(np.asarray(median_total(spliced, "spliced"), np.float64))
        self.unspliced_total = Constant(np.asarray(median_total(unspliced, "unspliced"), np.float64))
        self.spliced_cells, self.unspliced_cells = Reference(spliced.dense()), Reference(unspliced.dense())
        steady = steady_lines(ms, mu, cells, self.percentiles, offset=self.fit_offset)
        chosen = chosen_genes(ms, mu, steady, min_r2=self.min_r2, min_ratio=self.min_ratio)
        seconds = tuple(map(RowBlocks, self._products(spliced.dense(), unspliced.dense())))
        links = Edges(graph, np.arange(ms.n_rows, dtype=np.int32))
        line = steady._replace(gamma=steady.gamma.copy(), offset=steady.offset.copy())
        for genes, (s, u, ss, us) in gene_blocks(ms, mu, *seconds):
            known = Line(*(values[genes] for values in steady))
            seconds_of = _mean(ss, links), _mean(us, links)
            found = refitted(known, (s, u), seconds_of, cells, self.percentiles, offset=self.fit_offset)
            line.gamma[genes] = np.where(chosen[genes], found.gamma, known.gamma)
            line.offset[genes] = np.where(chosen[genes], found.offset, known.offset)
        self.keep(line, chosen)

    def __call__(self, ms, mu, spliced, unspliced, graph: Graph | Edges, groups=None) -> dict[str, Array]:
        """Velocity and the residual of the second moments, two arrays of shape (n_cells, n_genes)."""
        ms, mu = dense(ms), dense(mu)
        cells = self.spliced_cells.get_value(), self.unspliced_cells.get_value()
        pairs = zip(self._products(spliced, unspliced), self._products(*cells), strict=True)
        ss, us = (neighbour_mean(x, of_cells, graph)[0] for x, of_cells in pairs)
        slope, intercept = self.line(ms)
        second = (2 * us + mu - 2 * ms * mu) - slope * (2 * ss - ms - 2 * ms**2) + 2 * intercept * ms
        used = np.asarray(self.chosen.get_value()) if isinstance(ms, np.ndarray) else jnp.asarray(self.chosen[...])
        return {"velocity": mu - slope * ms - intercept, "variance_velocity": second * used}

    def _products(self, spliced, unspliced):
        """Spliced counts squared and times unspliced counts, of cells scaled to the median totals."""
        if self.normalize:
            spliced, unspliced = scaled(spliced, self.spliced_total[...]), scaled(unspliced, self.unspliced_total[...])
        return times(spliced, spliced), times(spliced, unspliced)


def _mean(x: np.ndarray, links: Edges) -> np.ndarray:
    return np.asarray(neighbour_mean(x, x, links)[0])


def times(a, b):
    """Elementwise product of two matrices, CSR where either is."""
    a, b = (a, b) if sparse.issparse(a) else (b, a)
    return a.multiply(b).tocsr() if sparse.issparse(a) else a * b


def refitted(
    known: Line,
    firsts: tuple[np.ndarray, np.ndarray],
    seconds: tuple[np.ndarray, np.ndarray],
    cells: np.ndarray,
    percentiles: tuple[float, ...],
    *,
    offset: bool,
) -> Line:
    """Lines through first and second moments, each weighted by its residuals from the line through it alone."""
    (s, u), (ss, us) = firsts, seconds
    used = np.zeros(s.shape, bool)
    used[cells] = extreme_cells(s[cells], u[cells], percentiles) | extreme_cells(
        s[cells], np.zeros_like(s[cells]), percentiles
    )
    first, x, y = Sums.of(s, u, used, offset=offset), 2 * ss - s, 2 * us + u
    second = Sums.of(x, y, np.ones(x.shape, bool))
    weights = [
        1 / np.maximum(residual.var(axis=0), 1e-12)
        for residual in (u - known.gamma * s - known.offset, y - second.slope * x)
    ]
    gamma = ratio(
        weights[0] * first.covariance + weights[1] * second.covariance,
        weights[0] * first.variance + weights[1] * second.variance,
    )
    return Line(gamma, first.intercept(gamma), known.r2)
