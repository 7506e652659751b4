"""Thousands of cells that a design tells apart into a few kinds, as a few dozen weighted pseudo-cells.

Given its kind, a cell enters the likelihood by its size factor alone, through smooth functions f: every sum over cells
is a sum of f(s) or of y f(s). A polynomial through Chebyshev nodes in log s reproduces such an f to twelve digits, so
that for each kind of cell the sums over its cells are sums over the nodes, with weights that are found once: how many
cells, and how many counts of each gene, a node stands for. What is left of 100,000 cells is a table of perhaps 50
columns, and nothing of the likelihood is lost.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.de.genes import GeneCounts, sparse_by_gene, tally
from dbx.ops.de.linear import gram
from dbx.ops.de.regression import Regression

DIGITS = 12.5
"""Of the interpolated functions."""
FEWEST_NODES, MOST_NODES = 4, 48
SHARE = 0.5
"""Collapse where the nodes are less than this share of the cells."""


class CollapsedCounts(GeneCounts):
    """Counts of pseudo-cells by gene; what does not depend on size factors is tallied over the cells themselves."""

    is_collapsed = True

    def __init__(self, cells: sparse.csr_matrix, genes: np.ndarray, n_all: int, nodes: Nodes, values, times):
        self.n_samples, self.n_all, self.genes = cells.shape[1], n_all, genes
        self.cells, self.nodes = cells, nodes
        """Counts of the cells, CSR of shape (n_genes, n_cells)."""
        self._rows, self._values, self._times = np.asarray(cells @ nodes.shares), values, times

    def regression(self, model: Regression) -> Regression:
        return self.nodes.regression(model)

    def only(self, at: np.ndarray) -> CollapsedCounts:
        other = super().only(at)
        other.cells = self.cells[at]
        return other


def collapsed(counts: RowBlocks, design: np.ndarray, size_factors: np.ndarray) -> CollapsedCounts | None:
    """Counts by pseudo-cells; None where these, or a gene's different counts, are hardly fewer than the cells."""
    if not is_collapsible(design, size_factors):
        return None
    cells = sparse_by_gene(counts)
    genes = np.flatnonzero(np.diff(cells.indptr))
    cells = cells if len(genes) == counts.n_columns else cells[genes]
    values, times = tally(cells)
    if values is None:
        return None
    return CollapsedCounts(cells, genes, counts.n_columns, Nodes(design, size_factors), values, times)


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
        found = [_interpolation(logs[self.kind == k]) for k in range(len(self.first))]
        widths = [len(nodes) for nodes, _ in found]
        self.size_factors = np.exp(np.concatenate([nodes for nodes, _ in found]))
        self.of_kind = np.repeat(np.arange(len(self.first)), widths)
        starts = np.cumsum(widths) - widths
        parts = []
        for k, (_, weights) in enumerate(found):
            cells, columns = np.flatnonzero(self.kind == k), starts[k] + np.arange(widths[k])
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
    """Nodes that give log(1 + exp(x)) its digits on an interval of this length, where it has a pole at a distance of pi.

    The error falls with the sum of the half axes of the largest ellipse around the interval that is free of poles.
    """
    if span < 1e-9:
        return 1
    ratio = 2 * np.pi / span
    return max(int(np.ceil(DIGITS / np.log10(ratio + np.sqrt(ratio**2 + 1)))), FEWEST_NODES)


def _interpolation(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(nodes, values of their Lagrange polynomials at ``logs``) on the interval that the values span."""
    n_nodes, middle, half = _n_nodes(np.ptp(logs)), (logs.max() + logs.min()) / 2, np.ptp(logs) / 2
    if n_nodes == 1:
        return np.array([middle]), np.ones((len(logs), 1))
    angles = (np.arange(n_nodes) + 0.5) * np.pi / n_nodes
    position = np.arccos(np.clip((logs - middle) / half, -1, 1))
    order = np.arange(n_nodes)
    coefficients = np.cos(np.outer(position, order)) * np.where(order == 0, 1, 2) / n_nodes
    return middle + half * np.cos(angles), coefficients @ np.cos(np.outer(order, angles))
