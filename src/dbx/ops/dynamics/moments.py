"""First moments of spliced and unspliced counts: means over the neighbours of each cell."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.dynamics.adjacency import neighbour_mean
from dbx.ops.dynamics.sizes import median_total, scaled
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Reference, silent
from dbx.ops.values import Array, Edges, Graph


class Moments(Operator):
    """Mean of each gene over a cell and its neighbours, all weighted alike.

    With ``normalize`` counts are first scaled to the median total of the fitted cells, spliced and unspliced ones each
    to their own.

    Bergen et al., Nature Biotechnology, 2020. The reference implementation is ``scvelo.pp.moments``.

    New cells: the mean over the cell and its neighbours among the reference cells.
    """

    name = "moments"
    inputs: ClassVar = {
        "spliced": Input(genes=True, content=("counts", "normalized")),
        "unspliced": Input(genes=True, content=("counts", "normalized")),
        "graph": Input(kind="graph"),
    }
    outputs: ClassVar = {"ms": Output(), "mu": Output()}
    rowwise = True
    blockwise = True
    host = True
    in_pieces = True
    references: ClassVar = {"spliced_cells": "spliced", "unspliced_cells": "unspliced"}

    def __init__(self, *, normalize: bool = True):
        self.normalize = normalize

    def fit(
        self,
        *,
        spliced: RowBlocks,
        unspliced: RowBlocks,
        graph: sparse.csr_matrix,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Find the totals to scale to, and keep the cells."""
        self.spliced_total = Constant(np.asarray(median_total(spliced, "spliced"), np.float64))
        self.unspliced_total = Constant(np.asarray(median_total(unspliced, "unspliced"), np.float64))
        self.spliced_cells, self.unspliced_cells = Reference(spliced.dense()), Reference(unspliced.dense())

    def __call__(self, spliced, unspliced, graph: Graph | Edges) -> dict[str, Array]:
        """Means of spliced and of unspliced counts, two arrays of shape (n_cells, n_genes)."""
        return {
            "ms": self._mean(spliced, self.spliced_cells.get_value(), self.spliced_total[...], graph),
            "mu": self._mean(unspliced, self.unspliced_cells.get_value(), self.unspliced_total[...], graph),
        }

    def _mean(self, x, cells, total, graph: Graph | Edges) -> Array:
        target = total if self.normalize else None
        return neighbour_mean(scaled(x, target), scaled(cells, target), graph)[0]
