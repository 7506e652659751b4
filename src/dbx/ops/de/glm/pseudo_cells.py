"""Thousands of cells that a design divides into a few kinds, as a few dozen weighted pseudo-cells.

Given its kind, a cell enters the likelihood by its size factor alone, through smooth functions f: every sum over cells
is a sum of f(s) or of y f(s). A polynomial through Chebyshev nodes in log s reproduces such an f to twelve digits, so
that for each kind of cell the sums over its cells are sums over the nodes, with weights that are found once: how many
cells, and how many counts of each gene, a node stands for. What is left of 100,000 cells is a table of perhaps 50
columns, and nothing of the likelihood is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.de.glm.genes import GeneCounts, sparse_by_gene
from dbx.ops.de.glm.linear import gram
from dbx.ops.de.glm.regression import Regression

DIGITS = 12.5
"""Of the interpolated functions."""
FEWEST_NODES, MOST_NODES = 4, 48
HALF = 0.5
PART_COUNTS = 1 << 22
"""Counts above zero that are looked at together."""
SMALL = 32
"""Counts up to here are not shared out."""
SHARE = 0.5
"""Collapse where the nodes are less than this share of the cells."""


class CollapsedCounts(GeneCounts):
    """Counts of pseudo-cells by gene; what depends on counts alone is tallied by their values."""

    is_collapsed = True

    def __init__(self, counts: RowBlocks, nodes: Nodes):
        self.n_samples, self.n_all = counts.n_rows, counts.n_columns
        cells = sparse_by_gene(counts)
        self.genes, self.nodes = np.flatnonzero(np.diff(cells.indptr)), nodes
        self.cells = cells if len(self.genes) == self.n_all else cells[self.genes]
        """Counts of the cells, CSR of shape (n_genes, n_cells)."""
        self._rows = np.asarray(self.cells @ nodes.shares)
        self._tally = _by_value(self.cells)

    def take_bounded(self, at: np.ndarray) -> np.ndarray:
        """Kinds of cells without a count of a gene have half a one.

        Their mean has its maximum likelihood at zero, where a Wald test of the strongest markers finds nothing. Half a
        count is Firth's correction for the means of groups (Biometrika, 1993).
        """
        y, nodes = self.take(at), self.nodes
        kinds = (nodes.of_kind[:, None] == np.arange(len(nodes.first))).astype(np.float64)
        expected = nodes.shares.sum(axis=0) * nodes.size_factors
        silent = np.abs(y @ kinds) < HALF / 2
        return y + HALF * (silent @ kinds.T) * expected / (expected @ kinds @ kinds.T)

    def regression(self, model: Regression) -> Regression:
        return self.nodes.regression(model)

    def only(self, at: np.ndarray) -> Self:
        other = super().only(at)
        other.cells = self.cells[at]
        return other


def _by_value(cells: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Counts that stand for all those above zero, and how many of each a gene has; arrays of shape (n_genes, n_values).

    Small counts are themselves; larger ones are shared out among nodes, as cells are.
    """
    most, n_genes = float(cells.data.max(initial=1)), cells.shape[0]
    limits = (np.log(SMALL), np.log(max(most, SMALL + 1)))
    nodes = np.exp(_nodes(*limits))
    times = np.zeros((n_genes, SMALL + len(nodes)))
    for genes in gene_parts(cells):
        part = cells[genes]
        gene, value = np.repeat(np.arange(part.shape[0]), np.diff(part.indptr)), part.data
        small = (value <= SMALL) & (value == np.rint(value))
        bins = gene[small] * (SMALL + 1) + value[small].astype(np.int64)
        few = np.bincount(bins, minlength=part.shape[0] * (SMALL + 1)).reshape(-1, SMALL + 1)
        times[genes, :SMALL] = few[:, 1:]
        key, repeats = np.unique(np.column_stack([gene[~small], value[~small]]), axis=0, return_counts=True)
        at = (key[:, 0].astype(np.int64), np.arange(len(key)))
        indicator = sparse.csr_matrix((repeats.astype(np.float64), at), shape=(part.shape[0], len(key)))
        times[genes, SMALL:] = indicator @ _lagrange(np.log(key[:, 1]), *limits)
    return np.broadcast_to(np.concatenate([np.arange(1.0, SMALL + 1), nodes]), times.shape), times


def gene_parts(cells: sparse.csr_matrix) -> Iterator[slice]:
    """Genes in parts with a bounded number of counts."""
    start, ends = 0, cells.indptr.astype(np.int64)
    while start < cells.shape[0]:
        stop = max(int(np.searchsorted(ends, ends[start] + PART_COUNTS, side="right")) - 1, start + 1)
        yield slice(start, min(stop, cells.shape[0]))
        start = stop


def start_of_kinds(counts: CollapsedCounts, model: Regression) -> np.ndarray:
    """Coefficients to start from, the logarithms of each kind's mean; of shape (n_genes, n_coefficients)."""
    nodes, everyone = counts.nodes, np.arange(len(counts))
    kinds = nodes.of_kind[:, None] == np.arange(len(nodes.first))
    totals = counts.take(everyone) @ kinds + 0.1
    log_means = np.log(totals / ((model.repeats * model.size_factors) @ kinds))
    rows = model.design[[int(np.flatnonzero(of_kind)[0]) for of_kind in kinds.T]]
    return np.linalg.solve(gram(totals, rows), ((totals * log_means) @ rows)[..., None])[..., 0]


class Nodes:
    """The pseudo-cells of a design and size factors."""

    def __init__(self, design: np.ndarray, size_factors: np.ndarray):
        _, self.first, kind = np.unique(design, axis=0, return_index=True, return_inverse=True)
        """A cell of each kind, an array of shape (n_kinds,)."""
        self.kind = kind.reshape(-1)
        logs = np.log(size_factors)
        limits = [(own.min(), own.max()) for own in (logs[self.kind == k] for k in range(len(self.first)))]
        nodes = [_nodes(*ends) for ends in limits]
        widths = [len(own) for own in nodes]
        self.size_factors = np.exp(np.concatenate(nodes))
        self.of_kind = np.repeat(np.arange(len(self.first)), widths)
        starts = np.cumsum(widths) - widths
        parts = []
        for k, ends in enumerate(limits):
            cells, columns = np.flatnonzero(self.kind == k), starts[k] + np.arange(widths[k])
            weights = _lagrange(logs[cells], *ends)
            at = (np.repeat(cells, widths[k]), np.tile(columns, len(cells)))
            parts.append(sparse.csr_matrix((weights.ravel(), at), shape=(len(logs), sum(widths))))
        self.shares = sum(parts[1:], parts[0]).toarray()
        """How much of each cell a node stands for, an array of shape (n_cells, n_nodes)."""

    def regression(self, model: Regression) -> Regression:
        """The same regression of the pseudo-cells; the floor is one of the mean of a cell with a size factor of 1."""
        return model._replace(
            design=model.design[self.first][self.of_kind],
            size_factors=self.size_factors,
            repeats=self.shares.sum(axis=0),
            lowest=np.log(model.min_mu) + np.log(self.size_factors),
        )


def is_collapsible(design: np.ndarray, size_factors: np.ndarray) -> bool:
    """Whether cells are many compared with their kinds."""
    rows, kind = np.unique(design, axis=0, return_inverse=True)
    logs, kind = np.log(size_factors), kind.reshape(-1)
    if len(rows) * FEWEST_NODES > SHARE * len(design):
        return False
    widths = [_n_nodes(np.ptp(logs[kind == k])) for k in range(len(rows))]
    return max(widths) <= MOST_NODES and sum(widths) < SHARE * len(design)


def _n_nodes(span: float) -> int:
    """Nodes that give log(1 + exp(x)) its digits on an interval of this length.

    It has poles at a distance of pi from the real axis. The error falls with the sum of the half axes of the largest
    ellipse around the interval that is free of poles.
    """
    if span < 1e-9:
        return 1
    ratio = 2 * np.pi / span
    return max(int(np.ceil(DIGITS / np.log10(ratio + np.sqrt(ratio**2 + 1)))), FEWEST_NODES)


def _nodes(low: float, high: float) -> np.ndarray:
    """Chebyshev nodes on an interval of logarithms."""
    n_nodes = _n_nodes(high - low)
    angles = (np.arange(n_nodes) + 0.5) * np.pi / n_nodes
    return (low + high) / 2 + (high - low) / 2 * np.cos(angles)


def _lagrange(logs: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values of the nodes' Lagrange polynomials, an array of shape (n_logs, n_nodes)."""
    n_nodes = _n_nodes(high - low)
    if n_nodes == 1:
        return np.ones((len(logs), 1))
    angles, order = (np.arange(n_nodes) + 0.5) * np.pi / n_nodes, np.arange(n_nodes)
    position = np.arccos(np.clip((2 * logs - high - low) / (high - low), -1, 1))
    coefficients = np.cos(np.outer(position, order)) * np.where(order == 0, 1, 2) / n_nodes
    return coefficients @ np.cos(np.outer(order, angles))
