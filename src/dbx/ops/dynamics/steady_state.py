"""Velocity by the steady-state model."""

from __future__ import annotations

from dbx.data.blocks import RowBlocks
from dbx.ops.dynamics.line_velocity import LineVelocity, fitting_cells
from dbx.ops.dynamics.lines import steady_lines
from dbx.ops.dynamics.velocity_genes import chosen_genes
from dbx.ops.operator import Progress, silent
from dbx.ops.values import Array, Codes


class SteadyState(LineVelocity):
    """v = mu - gamma ms - offset, in units of unspliced counts for a splicing rate of 1.

    The line of each gene is fitted to the cells with extreme counts, which are assumed to be near the upper or, with
    ``fit_offset``, also the lower steady state. With ``groups_for_fit`` only cells of these groups are used.
    Trainable are gamma and the offset.

    La Manno et al., Nature, 2018; Bergen et al., Nature Biotechnology, 2020. The reference implementation is
    ``scvelo.tl.velocity(mode="deterministic")``.

    New cells: the lines of the reference.
    """

    name = "steady_state_velocity"

    def fit(
        self,
        *,
        ms: RowBlocks,
        mu: RowBlocks,
        groups: Codes | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Fit the lines, and choose the genes whose lines are good."""
        cells = fitting_cells(groups, self.groups_for_fit, ms.n_rows)
        line = steady_lines(ms, mu, cells, self.percentiles, offset=self.fit_offset)
        self.keep(line, chosen_genes(ms, mu, line, min_r2=self.min_r2, min_ratio=self.min_ratio))

    def __call__(self, ms, mu, groups=None) -> dict[str, Array]:
        """Velocity of each gene in each cell, an array of shape (n_cells, n_genes)."""
        del groups
        slope, intercept = self.line(ms)
        return {"velocity": mu - slope * ms - intercept}
