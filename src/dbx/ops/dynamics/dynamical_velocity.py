"""Velocity by the kinetics of each gene."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.dynamics.adjacency import neighbour_mean
from dbx.ops.dynamics.velocity_genes import FEWEST
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Reference, silent
from dbx.ops.values import Array, Edges, Graph


class DynamicalVelocity(Operator):
    """Mean over a cell and its neighbours of the time derivatives of spliced counts on the fitted curves.

    Velocities of the ``genes`` with these numbers are used; those without kinetics are NaN.

    Bergen et al., Nature Biotechnology, 2020. The reference implementation is ``scvelo.tl.velocity(mode="dynamical")``.

    New cells: their own derivatives with those of neighbours among the reference cells.
    """

    name = "dynamical_velocity"
    inputs: ClassVar = {"speed": Input(genes=True, missing=True), "graph": Input(kind="graph")}
    outputs: ClassVar = {"velocity": Output(), "velocity_genes": Output(axis="genes", dtype="bool", view=True)}
    result = "velocity"
    rowwise = True
    host = True
    in_pieces = True
    unlisted: ClassVar = frozenset({"genes"})
    references: ClassVar = {"cells": "speed"}

    def __init__(self, *, genes: tuple[int, ...]):
        self.genes = genes

    def fit(self, *, speed: RowBlocks, graph: sparse.csr_matrix, seed: int = 0, progress: Progress = silent) -> None:
        """Keep the derivatives of the fitted cells."""
        if len(self.genes) < FEWEST:
            msg = (
                f"Only {len(self.genes)} of {speed.n_columns} genes have kinetics that are likely enough; at least "
                f"{FEWEST} are needed. Pass a lower min_likelihood or min_r2."
            )
            raise ValueError(msg)
        chosen = np.zeros(speed.n_columns, bool)
        chosen[list(self.genes)] = True
        self.chosen, self.cells = Constant(chosen), Reference(speed.dense())

    def __call__(self, speed, graph: Graph | Edges) -> dict[str, Array]:
        """Velocity of each gene in each cell, an array of shape (n_cells, n_genes)."""
        return {"velocity": neighbour_mean(speed, self.cells.get_value(), graph)[0]}

    @property
    def velocity_genes(self) -> np.ndarray:
        """Whether the velocity of a gene is used."""
        return np.asarray(self.chosen[...])
