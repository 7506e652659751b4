"""Pseudotime by the graph of velocities."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from dbx.ops.checks import check_whole
from dbx.ops.dynamics.kept import kept_or_mean
from dbx.ops.dynamics.lineages import Lineage, lineages
from dbx.ops.dynamics.marks import marks
from dbx.ops.dynamics.pseudotime import peak, velocity_times
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Reference, silent
from dbx.ops.values import Codes, Edges, Graph


class VelocityPseudotime(Operator):
    """Mean of the diffusion times from the root and, reversed, from the end on the graph of absolute correlations.

    The root is the cell around which ``root`` is highest, or the cell with the number ``root_cell``; the end likewise.
    ``agreement`` is the Spearman correlation of the two times. Each of the ``groups`` has its own root, end and time,
    and ``agreement`` is the lowest of theirs.

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
        "groups": Input(kind="codes", optional=True, of_fitted_cells=True),
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
        groups: Codes | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Find root and end, and the times between."""
        times, agreements = np.empty(graph.shape[0], np.float32), []
        of_roots, of_ends = (marks(columns, "highest") for columns in (root, end))
        for part in lineages(groups, len(times)):
            links = part.among(graph)
            first = highest(part, links, "root", self.root_cell, of_roots)
            last = highest(part, links, "end", self.end_cell, of_ends)
            if first is None:
                msg = "There is no root: pass a column of root cells, or the number of one."
                raise ValueError(msg)
            up, down = part.among(positive), part.among(negative)
            found = velocity_times(up, down, first, last, n_dcs=self.n_dcs, seed=seed)
            times[part.rows] = found.time
            agreements.append(found.agreement)
        self.agreement = Constant(np.fmin.reduce(np.asarray(agreements, np.float64)))
        self.times = Reference(times)

    def __call__(self, graph: Graph | Edges, positive=None, negative=None, root=None, end=None, groups=None):
        """Pseudotime, an array of shape (n_cells,)."""
        del positive, negative, root, end, groups
        return {"pseudotime": kept_or_mean(self.times.get_value()[:, None], graph, np.inf)[:, 0]}


def highest(
    part: Lineage, links: sparse.csr_matrix, title: str, cell: int | None, values: np.ndarray | None
) -> int | None:
    """The place of a cell, or of that around which values are highest; None without either."""
    if cell is not None:
        return part.place(cell, title)
    marked = part.marks(values, title)
    return None if marked is None else peak(marked, links)
