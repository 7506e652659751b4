"""Where on its curve each gene is in each cell, by counts."""

from __future__ import annotations

from typing import Any, NamedTuple

from dbx.ops.arrays import array_library
from dbx.ops.dynamics.projection import spread_times
from dbx.ops.dynamics.splicing import Curve

N_POINTS = 24
"""Points of each half of the curves at which times are sought."""
SHARED = 300.0
"""Cells that the means over a neighbourhood count for in the weights of times."""

AT_ONCE = 1 << 21
"""Values of all cells at all points that are computed with at once, for at most 16 genes."""


class CountModel(NamedTuple):
    """Negative binomial counts of genes along their curves: arrays of shape (n_genes,)."""

    curve: Curve
    """In standard deviations of moments."""
    u0: Any
    s0: Any
    """What is added to the curve, in the same units."""
    theta_u: Any
    theta_s: Any
    """Inverse dispersion of unspliced and of spliced counts."""


class Counts(NamedTuple):
    """Counts, and what a level of 1 is expected to be counted as in each cell, all of shape (n_cells, n_genes)."""

    u: Any
    s: Any
    size_u: Any
    size_s: Any


class CurvePoints(NamedTuple):
    """Times in a state, and mean counts then: the first half of the rows on, the second off; (points, n_genes)."""

    time: Any
    u: Any
    s: Any


class CountStates(NamedTuple):
    """State and times of genes in cells: arrays of shape (n_cells, n_genes)."""

    share: Any
    """Weight of the induced state."""
    induced: Any
    repressed: Any
    """Mean time in either state."""
    speed: Any
    """Mean time derivative of spliced counts over both."""

    @property
    def on(self) -> Any:
        """Whether the gene is being induced."""
        return self.share > 0.5

    @property
    def time(self) -> Any:
        """Time in the likelier state."""
        library: Any = array_library(self.share)
        return library.where(self.on, self.induced, self.repressed)

    @property
    def swapped(self) -> CountStates:
        """With induction and repression exchanged."""
        return self._replace(share=1 - self.share)

    def total_time(self, curve: Curve) -> Any:
        """Time since the start."""
        library: Any = array_library(self.share)
        return library.where(self.on, self.induced, curve.switch + self.repressed)


def genes_at_once(n_cells: int) -> int:
    """Genes of which all points are compared with all cells together."""
    return int(min(max(AT_ONCE // (2 * N_POINTS * max(n_cells, 1)), 1), 16))


def points_of(model: CountModel, n_points: int = N_POINTS) -> CurvePoints:
    """Points about equally far apart on both halves of the curves."""
    library: Any = array_library(model.curve.r)
    found = []
    for on in (True, False):
        time = spread_times(model.curve, n_points, on=on)
        u, s = model.curve.at(library.asarray(on), time)
        found.append((time, u + model.u0, s + model.s0))
    return CurvePoints(*(library.concatenate(parts) for parts in zip(*found, strict=True)))


def kernel(x: Any, size: Any, mean: Any, theta: Any) -> Any:
    """Log-probability of counts with the mean ``size * mean``, without what does not depend on that."""
    library: Any = array_library(mean)
    return x * library.log(mean) - (x + theta) * library.log1p(size * mean / theta)


def at_points(model: CountModel, points: CurvePoints, counts: Counts) -> Any:
    """Log-probability of both counts at the points, of shape (n_cells, points, n_genes), up to a term of each cell."""
    u, s, size_u, size_s = (x[:, None, :] for x in counts)
    return kernel(u, size_u, points.u, model.theta_u) + kernel(s, size_s, points.s, model.theta_s)


def weights_of(own: Any, near: Any) -> Any:
    """Weights of the points by the counts of a cell and, before these, by the means of its neighbourhood.

    ``own`` and ``near`` are the log-probabilities of both at the points.
    """
    library: Any = array_library(own)
    logits = own + SHARED * near
    weights = library.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def states_of(model: CountModel, points: CurvePoints, weights: Any) -> CountStates:
    """Means over the points."""
    library: Any = array_library(weights)
    half = len(points.time) // 2
    share = weights[:, :half].sum(axis=1)
    times = []
    for part, total in ((slice(None, half), share), (slice(half, None), 1 - share)):
        times.append((weights[:, part] * points.time[part]).sum(axis=1) / library.maximum(total, 1e-12))
    on = library.arange(2 * half)[:, None] < half
    speed = model.curve.speed(on, points.u - model.u0, points.s - model.s0)[1]
    end = model.curve.switch, model.curve.rest
    induced, repressed = (library.minimum(t, last) for t, last in zip(times, end, strict=True))
    return CountStates(share, induced, repressed, (weights * speed).sum(axis=1))
