"""Kinetics of all genes in common units."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.dynamics.adjacency import adjacency
from dbx.ops.dynamics.clock import common_clock, total_times
from dbx.ops.dynamics.kinetic_cells import GeneCells, gene_cells
from dbx.ops.dynamics.kinetic_fit import Fit, Smoothing, by_genes, common_scaling, fit_kinetics, log_scaling
from dbx.ops.dynamics.kinetic_likelihood import log_likelihood, of_constant
from dbx.ops.dynamics.kinetic_steps import curve_of
from dbx.ops.dynamics.lines import gene_blocks
from dbx.ops.operator import Progress
from dbx.ops.values import Edges

SAMPLED = 200
"""Genes from which the common scaling is found."""
FEWEST_CELLS = 3
"""With both counts, without which a gene is not fitted."""
NAMES = (
    "std_u",
    "std_s",
    "likelihood",
    "constant_likelihood",
    "u0",
    "s0",
    "variance",
    "alignment_scaling",
    "direction",
    "agreement",
    "r2",
)


class Recovered(NamedTuple):
    """Arrays of shape (n_genes,); NaN for genes that cannot be fitted."""

    alpha: np.ndarray
    beta: np.ndarray
    gamma: np.ndarray
    t_: np.ndarray
    scaling: np.ndarray
    std_u: np.ndarray
    std_s: np.ndarray
    likelihood: np.ndarray
    constant_likelihood: np.ndarray
    u0: np.ndarray
    s0: np.ndarray
    variance: np.ndarray
    """Mean squared distance from the curve, in standard deviations."""
    alignment_scaling: np.ndarray
    """Units of the common time in a splicing time."""
    direction: np.ndarray
    """By how much swapping induction and repression lowers the mean log-likelihood."""
    agreement: np.ndarray
    """Correlation of velocity times elapsed time with displacement between neighbours."""
    r2: np.ndarray


def recovered(
    ms: RowBlocks,
    mu: RowBlocks,
    graph: sparse.csr_matrix,
    *,
    max_iter: int,
    scaling: float | None,
    basal: bool,
    t_max: float,
    steady: np.ndarray | None,
    seed: int,
    progress: Progress,
) -> Recovered:
    """Fit all genes, a block of them at a time."""
    links = adjacency(Edges(graph, np.arange(ms.n_rows, dtype=np.int32)))
    smooth = over(links)
    n_genes = ms.n_columns
    values = np.full((len(Recovered._fields), n_genes), np.nan)
    if scaling is None:
        some = np.linspace(0, n_genes - 1, min(n_genes, SAMPLED)).astype(int)
        _, (s, u) = next(gene_blocks(ms.select(some), mu.select(some)))
        scaling = common_scaling(gene_cells(*above(u, s, basal=basal)[0], steady), smooth, max_iter)
    velocity, scaled = (np.zeros(ms.shape, np.float32) for _ in range(2))
    for genes, (s, u) in gene_blocks(ms, mu):
        counts, low = above(u, s, basal=basal)
        of_block = values[:, genes], velocity[:, genes], scaled[:, genes]

        def fit(part: slice, counts=counts, low=low, of_block=of_block) -> None:
            u, s = (x[:, part] for x in counts)
            cells = gene_cells(u, s, steady)
            kinetics = fit_kinetics(cells, smooth, max_iter, scaling)
            of_block[0][:, part], of_block[1][:, part] = _of_fit(kinetics, cells, tuple(x[part] for x in low), t_max)
            of_block[2][:, part] = cells.y

        by_genes(fit, u.shape[1])
        progress(genes.stop, n_genes)
    found = Recovered(*values)
    if not np.isfinite(found.alpha).any():
        msg = (
            f"None of {n_genes} genes can be fitted: a gene must have spliced and unspliced counts in at least "
            f"{FEWEST_CELLS} cells, besides the highest percentile."
        )
        raise ValueError(msg)
    evidence = np.nan_to_num(np.log(np.maximum(found.likelihood, 1e-12) / found.constant_likelihood))
    velocity *= np.nan_to_num(1 / found.alignment_scaling).astype(np.float32)
    clock = common_clock(velocity, scaled, np.maximum(evidence, 0), links, seed)
    return found._replace(
        **{name: getattr(found, name) * clock.rate for name in ("alpha", "beta", "gamma")},
        t_=found.t_ / clock.rate,
        alignment_scaling=found.alignment_scaling / clock.rate,
        agreement=np.where(np.isfinite(found.alpha), clock.agreement, np.nan),
    )


def over(links: sparse.csr_matrix) -> Smoothing:
    """Mean over each cell and its neighbours."""
    share = 1 / (1 + np.diff(links.indptr))[:, None]
    return lambda x: (links @ x + x) * share


def above(u: np.ndarray, s: np.ndarray, *, basal: bool) -> tuple[tuple[np.ndarray, np.ndarray], tuple]:
    """Counts above the basal ones, the smallest of each gene, and these."""
    low = tuple(x.min(axis=0) if basal else np.zeros(x.shape[1]) for x in (u, s))
    return (u - low[0], s - low[1]), low


def _of_fit(fit: Fit, cells: GeneCells, low: tuple, t_max: float) -> tuple[np.ndarray, np.ndarray]:
    """What is recovered of some genes before their clocks are set, without agreement and R2, and their speeds."""
    curve, found = curve_of(fit.parameters), fit.states
    n_used = cells.used.sum(axis=0)
    variance = np.maximum((cells.used * found.square).sum(axis=0) / np.maximum(n_used, 1), 1e-12)
    unit = t_max / total_times(found.total_time(curve), curve.switch)
    scaling = np.exp(log_scaling(fit.parameters, cells))
    likelihood, swapped = fit.likelihood, log_likelihood(curve, found.swapped, cells)
    direction = np.full(len(likelihood), np.nan)
    np.subtract(likelihood, swapped, out=direction, where=np.isfinite(likelihood) & np.isfinite(swapped))
    later = np.full(len(unit), np.nan)
    values = Recovered(
        alpha=curve.top_u * cells.std_u / scaling / unit,
        beta=1 / scaling / unit,
        gamma=curve.r / unit,
        t_=curve.switch * unit,
        scaling=scaling,
        std_u=cells.std_u,
        std_s=cells.std_s,
        likelihood=np.exp(likelihood),
        constant_likelihood=np.exp(of_constant(cells)),
        u0=low[0],
        s0=low[1],
        variance=variance,
        alignment_scaling=unit,
        direction=direction,
        agreement=later,
        r2=later,
    )
    table = np.stack(values)
    table[:, n_used < FEWEST_CELLS] = np.nan
    return table, found.speed(curve, variance)
