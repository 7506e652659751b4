"""Pseudotime by the graph of velocities."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from dbx.ops.checks import check_whole
from dbx.ops.dynamics.kept import kept_or_mean
from dbx.ops.dynamics.marks import marks
from dbx.ops.dynamics.pseudotime import peak, velocity_times
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Reference, silent
from dbx.ops.values import Edges, Graph


class VelocityPseudotime(Operator):
    """Mean of the diffusion times from the root and, reversed, from the end on the graph of absolute correlations.

    The root is the cell around which ``root`` is highest, or the cell with the number ``root_cell``; the end likewise.
    ``agreement`` is the Spearman correlation of the two times.

    Haghverdi et al., Nature Methods, 2016; Bergen et al., Nature Biotechnology, 2020. The reference implementation is
    ``scvelo.tl.velocity_pseudotime``.

    New cells: the mean over their neighbours among the reference cells.
    """

    name = "velocity_pseudotime"
    inputs: ClassVar = {
        "positive": Input(kind="graph", of_fitted_cells=True),
        "negative": Input(kind="graph", of_fitted_cells=True),
        "graph": Input(kind="graph"),
        "root": Input(kind="columns", optional=True, of_fitted_cells=True),
        "end": Input(kind="columns", optional=True, of_fitted_cells=True),
    }
    outputs: ClassVar = {
        "pseudotime": Output(),
        "agreement": Output(axis="none", dtype="float64", view=True, inference=True),
    }
    rowwise = True
    host = True
    references: ClassVar = {"times": "pseudotime"}

    def __init__(self, *, n_dcs: int = 10, root_cell: int | None = None, end_cell: int | None = None):
        check_whole(n_dcs, 2, "n_dcs")
        self.n_dcs = n_dcs
        self.root_cell = root_cell
        self.end_cell = end_cell

    def fit(
        self,
        *,
        positive: sparse.csr_matrix,
        negative: sparse.csr_matrix,
        graph: sparse.csr_matrix,
        root: dict[str, Any] | None = None,
        end: dict[str, Any] | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Find root and end, and the times between."""
        first = highest(root, graph) if self.root_cell is None else self.root_cell
        last = self.end_cell if end is None else highest(end, graph)
        if first is None:
            msg = "There is no root: pass a column of root cells, or the number of one."
            raise ValueError(msg)
        found = velocity_times(positive, negative, first, last, n_dcs=self.n_dcs, seed=seed)
        self.agreement = Constant(np.asarray(found.agreement, np.float64))
        self.times = Reference(found.time.astype(np.float32))

    def __call__(self, graph: Graph | Edges, positive=None, negative=None, root=None, end=None) -> dict[str, Any]:
        """Pseudotime, an array of shape (n_cells,)."""
        del positive, negative, root, end
        return {"pseudotime": kept_or_mean(self.times.get_value()[:, None], graph, np.inf)[:, 0]}


def highest(columns: dict[str, Any] | None, graph: sparse.csr_matrix) -> int | None:
    """The cell around which a column is highest; None without one."""
    values = marks(columns, "highest")
    return None if values is None else peak(values, graph)
