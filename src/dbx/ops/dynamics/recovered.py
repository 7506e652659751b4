"""Kinetics of all genes in common units."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.dynamics.adjacency import adjacency
from dbx.ops.dynamics.clock import common_clock
from dbx.ops.dynamics.count_states import Counts, genes_at_once
from dbx.ops.dynamics.kinetic_cells import gene_cells
from dbx.ops.dynamics.kinetic_fit import GENES_AT_ONCE, Smoothing, by_genes, common_scaling, fit_kinetics, penalties_of
from dbx.ops.dynamics.kinetic_values import FEWEST_CELLS, Recovered, of_counts, of_fit
from dbx.ops.dynamics.lines import gene_blocks
from dbx.ops.dynamics.raw_counts import RawCounts
from dbx.ops.operator import Progress
from dbx.ops.values import Edges

SAMPLED = 200
"""Genes from which the common scaling is found."""


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
    raw: RawCounts | None = None,
) -> Recovered:
    """Fit all genes, a block of them at a time; with ``raw`` counts by their likelihood, from the fit to moments."""
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

        def fit(part: slice, counts=counts, low=low, of_block=of_block, first=genes.start) -> None:
            (u, s), below = (x[:, part] for x in counts), tuple(x[part] for x in low)
            cells = gene_cells(u, s, steady)
            kinetics = fit_kinetics(cells, smooth, max_iter, scaling)
            if raw is None:
                found = of_fit(kinetics, cells, below, t_max)
            else:
                some = raw.of(np.arange(first + part.start, first + part.stop), cells.std_u, cells.std_s)
                mean_u, mean_s = (smooth(x + basal) for x, basal in zip((u, s), below, strict=True))
                near = Counts(mean_u, mean_s, cells.std_u[None], cells.std_s[None])
                found = of_counts(kinetics, cells, below, t_max, some, near, penalties_of(cells, scaling), max_iter)
            of_block[0][:, part], of_block[1][:, part] = found
            of_block[2][:, part] = cells.y

        by_genes(fit, u.shape[1], GENES_AT_ONCE if raw is None else genes_at_once(ms.n_rows))
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
