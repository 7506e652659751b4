"""Roots and ends of a process, from the stationary states of its velocities."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from dbx.ops.checks import check_above_zero
from dbx.ops.dynamics.kept import kept_or_mean
from dbx.ops.dynamics.lineages import lineages
from dbx.ops.dynamics.terminal import terminal_states
from dbx.ops.operator import Input, Operator, Output, Progress, Reference, silent
from dbx.ops.values import Codes, Edges, Graph


class TerminalStates(Operator):
    """Ends are where transitions by velocities stay in the long run, roots where their reversal does.

    Left eigenvectors of eigenvalues of at least 1 - ``eps`` of the matrix of transitions, or of its transpose with
    normalised rows; absolute values, summed, and averaged over the neighbours of each cell. Each of the ``groups`` has
    its own.

    Bergen et al., Nature Biotechnology, 2020. The reference implementation is ``scvelo.tl.terminal_states``.

    New cells: the mean over their neighbours among the reference cells.
    """

    name = "terminal_states"
    inputs: ClassVar = {
        "positive": Input(kind="graph", of_fitted_cells=True),
        "negative": Input(kind="graph", of_fitted_cells=True),
        "distances": Input(kind="graph"),
        "groups": Input(kind="codes", optional=True, of_fitted_cells=True),
    }
    outputs: ClassVar = {"roots": Output(), "ends": Output()}
    rowwise = True
    host = True
    references: ClassVar = {"root_cells": "roots", "end_points": "ends"}

    def __init__(self, *, scale: float = 10.0, eps: float = 1e-3):
        check_above_zero(scale, "scale")
        check_above_zero(eps, "eps")
        self.scale, self.eps = scale, eps

    def fit(
        self,
        *,
        positive: sparse.csr_matrix,
        negative: sparse.csr_matrix,
        distances: sparse.csr_matrix,
        groups: Codes | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Find the stationary states of the fitted cells."""
        roots, ends = np.zeros((2, distances.shape[0]), np.float32)
        for part in lineages(groups, len(roots)):
            graphs = (part.among(graph) for graph in (positive, negative, distances))
            roots[part.rows], ends[part.rows] = terminal_states(*graphs, scale=self.scale, eps=self.eps, seed=seed)
        self.root_cells, self.end_points = Reference(roots), Reference(ends)

    def __call__(self, distances: Graph | Edges, positive=None, negative=None, groups=None) -> dict[str, Any]:
        """How much each cell is a root and an end, two arrays of shape (n_cells,)."""
        del positive, negative, groups
        stored = (self.root_cells.get_value(), self.end_points.get_value())
        return {
            name: kept_or_mean(values[:, None], distances)[:, 0]
            for name, values in zip(("roots", "ends"), stored, strict=True)
        }
