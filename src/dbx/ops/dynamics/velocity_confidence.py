"""How much the velocities of neighbours agree."""

from __future__ import annotations

from typing import ClassVar

from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import array_library, dense
from dbx.ops.dynamics.adjacency import neighbour_mean
from dbx.ops.operator import Input, Operator, Output, Progress, Reference, silent
from dbx.ops.values import Array, Edges, Graph


class VelocityConfidence(Operator):
    """Mean Pearson correlation of a cell's velocity with those of its neighbours, and its length.

    Negative means are 0. The length is that of the velocity less its mean over genes.

    Bergen et al., Nature Biotechnology, 2020. The reference implementation is ``scvelo.tl.velocity_confidence``.

    New cells: correlation with the velocities of neighbours among the reference cells.
    """

    name = "velocity_confidence"
    inputs: ClassVar = {"v": Input(genes=True, missing=True), "graph": Input(kind="graph")}
    outputs: ClassVar = {"confidence": Output(), "length": Output()}
    rowwise = True
    blockwise = True
    host = True
    in_pieces = True
    references: ClassVar = {"cells": "v"}

    def fit(self, *, v: RowBlocks, graph: sparse.csr_matrix, seed: int = 0, progress: Progress = silent) -> None:
        """Keep the velocities of the fitted cells."""
        self.cells = Reference(v.dense())

    def __call__(self, v, graph: Graph | Edges) -> dict[str, Array]:
        """Agreement with the neighbours and length, two arrays of shape (n_cells,)."""
        own, length = unit_rows(dense(v))
        others, _ = unit_rows(self.cells.get_value())
        mean, degree = neighbour_mean(own, others, graph)
        # the mean includes the cell itself, which agrees with itself
        agreement = ((mean * own).sum(axis=1) * (degree + 1) - (own**2).sum(axis=1)) / (degree + (degree == 0))
        return {"confidence": agreement.clip(0), "length": length}


def unit_rows(v: Array) -> tuple[Array, Array]:
    """Rows less their mean, of length 1 unless they are constant, and what their lengths were."""
    library = array_library(v)
    v = v - v.mean(axis=1, keepdims=True)
    square = (v**2).sum(axis=1)
    length = library.where(square > 0, library.sqrt(library.where(square > 0, square, 1)), 0)
    return v / (length + (length == 0))[:, None], length
