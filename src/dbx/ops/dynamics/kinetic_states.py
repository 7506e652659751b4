"""The state and the time of each gene in each cell, given its curve."""

from __future__ import annotations

from typing import Any, NamedTuple

from dbx.ops.arrays import array_library
from dbx.ops.dynamics.projection import Nearest, nearest
from dbx.ops.dynamics.splicing import Curve

SOFT = 0.3
"""Variance of a cell's neighbourhood relative to that of a cell, by which both states have weights."""


class NearestStates(NamedTuple):
    """The nearest points of both halves of curves, and which is preferred: arrays of shape (n_cells, n_genes)."""

    induced: Nearest
    repressed: Nearest
    preferred: Any
    """Squared distance from the repressed less that from the induced half, of the cell or its neighbourhood."""

    def chosen(self, preferred: Any) -> NearestStates:
        """The same with the preferences of neighbourhoods."""
        return self._replace(preferred=preferred)

    @property
    def on(self) -> Any:
        """Whether the gene is being induced."""
        return self.preferred > 0

    @property
    def time(self) -> Any:
        """Time in the state."""
        return self._of(self.induced.time, self.repressed.time)

    @property
    def square(self) -> Any:
        """Squared distance from the curve."""
        return self._of(self.induced.square, self.repressed.square)

    @property
    def swapped(self) -> NearestStates:
        """With induction and repression exchanged."""
        return self._replace(preferred=-self.preferred)

    def total_time(self, curve: Curve) -> Any:
        """Time since the start."""
        return self._of(self.induced.time, curve.switch + self.repressed.time)

    def speed(self, curve: Curve, variance: Any) -> Any:
        """Time derivative of spliced counts, the mean over both states by their likelihoods."""
        library: Any = array_library(self.preferred)
        share = 1 / (1 + library.exp(-library.clip(self.preferred / (2 * SOFT * variance), -50, 50)))
        speeds = []
        for state, found in ((True, self.induced), (False, self.repressed)):
            on = library.full(found.time.shape, state)
            speeds.append(curve.speed(on, *curve.at(on, found.time))[1])
        return share * speeds[0] + (1 - share) * speeds[1]

    def _of(self, this: Any, that: Any) -> Any:
        library: Any = array_library(self.preferred)
        return library.where(self.on, this, that)


def nearest_states(curve: Curve, x: Any, y: Any) -> NearestStates:
    """To unspliced x and spliced y, arrays of shape (n_cells, n_genes)."""
    induced, repressed = (nearest(curve, x, y, on=state) for state in (True, False))
    return NearestStates(induced, repressed, repressed.square - induced.square)
