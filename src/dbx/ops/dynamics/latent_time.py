"""Latent time: one time of each cell from the kinetics of its genes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.checks import check_above_zero, check_fraction
from dbx.ops.dynamics.adjacency import adjacency
from dbx.ops.dynamics.kept import kept_or_mean
from dbx.ops.dynamics.lineages import Lineage, lineages
from dbx.ops.dynamics.marks import marks
from dbx.ops.dynamics.pseudotime import velocity_times
from dbx.ops.dynamics.shared_time import MOST, latent_times, ordered, settled_time
from dbx.ops.dynamics.terminal import terminal_states
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Reference, silent
from dbx.ops.values import Codes, Edges, Graph


class LatentTime(Operator):
    """Low percentiles over genes of the times since the roots, averaged over roots and, before and after, neighbours.

    ``place`` is where the roots are in the time from the roots of the velocities themselves.

    The roots are the up to four cells that ``root`` marks with the earliest times, or the cell with the number
    ``root_cell``; the ends likewise. Cells whose time disagrees with that of their neighbours are left out of the mean.
    Each of the ``groups`` has its own roots, ends and time, and ``place`` is the latest of them.

    Bergen et al., Nature Biotechnology, 2020. The reference implementation is ``scvelo.tl.latent_time``.

    New cells: the mean over their neighbours among the reference cells.
    """

    name = "latent_time"
    inputs: ClassVar = {
        "time": Input(genes=True, of_fitted_cells=True, missing=True),
        "positive": Input(kind="graph", of_fitted_cells=True),
        "negative": Input(kind="graph", of_fitted_cells=True),
        "graph": Input(kind="graph"),
        "root": Input(kind="columns", optional=True, of_fitted_cells=True),
        "end": Input(kind="columns", optional=True, of_fitted_cells=True),
        "groups": Input(kind="codes", optional=True, of_fitted_cells=True),
    }
    outputs: ClassVar = {
        "latent": Output(),
        "place": Output(axis="none", dtype="float64", view=True, inference=True),
    }
    rowwise = True
    host = True
    references: ClassVar = {"times": "latent"}

    def __init__(
        self,
        *,
        min_confidence: float = 0.75,
        min_corr_diffusion: float | None = None,
        weight_diffusion: float | None = None,
        root_cell: int | None = None,
        end_cell: int | None = None,
        t_max: float | None = None,
    ):
        self.min_confidence = min_confidence
        self.min_corr_diffusion = min_corr_diffusion
        self.weight_diffusion = weight_diffusion
        self.root_cell = root_cell
        self.end_cell = end_cell
        self.t_max = t_max
        check_fraction(min_confidence, "min_confidence")
        if weight_diffusion is not None:
            check_fraction(weight_diffusion, "weight_diffusion")
        if t_max is not None:
            check_above_zero(t_max, "t_max")

    def fit(
        self,
        *,
        time: RowBlocks,
        positive: sparse.csr_matrix,
        negative: sparse.csr_matrix,
        graph: sparse.csr_matrix,
        root: dict[str, Any] | None = None,
        end: dict[str, Any] | None = None,
        groups: Codes | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Find the roots and ends, and the times between."""
        marked = [marks(columns, "1") for columns in (root, end)]
        times, places = np.empty(graph.shape[0], np.float32), []
        of_genes = time.dense().astype(np.float64)
        for part in lineages(groups, len(times)):
            edges = [part.among(x) for x in (positive, negative, graph)]
            found, place = self._of_lineage(part, of_genes[part.rows], *edges, *marked, seed=seed)
            times[part.rows] = found * (1 if self.t_max is None else self.t_max)
            places.append(place)
        self.place = Constant(np.asarray(max(places)))
        self.times = Reference(times)

    def _of_lineage(self, part: Lineage, t, positive, negative, graph, root, end, *, seed: int):
        """Times of some cells from 0 to 1, and the place of their roots."""
        links = neighbourhoods(graph)
        t = links @ t
        total = t.sum(axis=1)
        given = ((self.root_cell, root, "root"), (self.end_cell, end, "end"))
        roots, ends = (
            np.array([part.place(cell, title)])
            if cell is not None
            else ordered(part.marks(values, title), total, last=title == "end")
            for cell, values, title in given
        )
        if not len(roots):
            msg = "No cell is a root: pass root_key, a column that is 1 or True in root cells or the name of a cell."
            raise ValueError(msg)
        diffusion = None
        if self.min_corr_diffusion is not None or self.weight_diffusion is not None:
            diffusion = velocity_times(
                positive, negative, int(roots[0]), int(ends[0]) if len(ends) else None, seed=seed
            ).time
            diffusion = np.where(np.isfinite(diffusion), diffusion, 0)
            t = t[:, self._along(t, diffusion)]
        early = latent_times(t, roots, ends)
        settled = settled_time(early, links, self.min_confidence, diffusion, self.weight_diffusion)
        found, _ = terminal_states(positive, negative, graph, seed=seed)
        own = latent_times(t, ordered(found, total), np.zeros(0, np.intp))
        return settled, own[roots[:MOST]].mean()

    def _along(self, t: np.ndarray, diffusion: np.ndarray) -> np.ndarray:
        if self.min_corr_diffusion is None:
            return np.ones(t.shape[1], bool)
        apart, line = t - t.mean(axis=0), diffusion - diffusion.mean()
        length = np.sqrt((apart**2).sum(axis=0) * (line**2).sum())
        found = np.divide(line @ apart, length, out=np.zeros(t.shape[1]), where=length > 0) >= self.min_corr_diffusion
        if not found.any():
            msg = f"No gene's time correlates with the diffusion time by min_corr_diffusion={self.min_corr_diffusion}."
            raise ValueError(msg)
        return found

    def __call__(self, graph: Graph | Edges, time=None, positive=None, negative=None, root=None, end=None, groups=None):
        """Latent time, an array of shape (n_cells,)."""
        del time, positive, negative, root, end, groups
        return {"latent": kept_or_mean(self.times.get_value()[:, None], graph, np.nan)[:, 0]}


def neighbourhoods(graph: sparse.csr_matrix) -> sparse.csr_matrix:
    """The mean over each cell and its neighbours as a CSR matrix."""
    links = adjacency(Edges(graph, np.arange(graph.shape[0], dtype=np.int32))).astype(np.float64)
    links = (links + sparse.identity(graph.shape[0])).tocsr()
    links.data /= np.repeat(np.diff(links.indptr), np.diff(links.indptr))
    return links
