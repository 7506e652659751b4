"""One pass of expectation maximisation or variational Bayes, and passes accelerated by SQUAREM."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from dbx.ops.abundance.components import Parts
from dbx.ops.abundance.interior import TINY

ENOUGH = 0.25
"""Fraction of the parts that have settled from which on the others are copied, to go on without them."""


@dataclass(frozen=True)
class Passes:
    """The map whose fixed point is sought: a = prior + a share of each class, for several samples side by side.

    The share of member t of a class is proportional to (w e(a))^power, where e is a itself or, with a prior, the
    exponential of the mean of the logarithm of a gamma variable with shape a.
    """

    matrix: sparse.csr_matrix
    """Weights to the power, CSR of shape (n_classes, n_transcripts)."""
    scale: np.ndarray
    """What they are multiplied with, an array of shape (n_transcripts, n_samples)."""
    counts: np.ndarray
    """Array of shape (n_classes, n_samples)."""
    parts: np.ndarray
    """Part of each transcript, and of each class."""
    of_class: np.ndarray
    prior: float
    power: float

    def __call__(self, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where a pass leads, and the objective here: of each part and sample, higher is better."""
        e, log = _expected(a, self.prior)
        u = (e if self.power == 1 else e**self.power) * self.scale
        d = np.maximum(self.matrix @ u, TINY)
        after = self.prior + u * (self.matrix.T @ (self.counts / d))
        if self.power != 1:
            return after, -self.by_part(np.abs(after - a))
        value = _sums(self.counts * np.log(d), self.of_class, len(self.sizes))
        return after, value if log is None else value - self.by_part(_divergence(a, log, self.prior))

    @property
    def sizes(self) -> np.ndarray:
        """Number of transcripts of each part."""
        return np.bincount(self.parts)

    def by_part(self, values: np.ndarray) -> np.ndarray:
        """Sums over the transcripts of each part."""
        return _sums(values, self.parts, len(self.sizes))


def _expected(a, prior):
    if prior == 0:
        return a, None
    from scipy import special

    log = special.digamma(a)
    return np.exp(log), log


def _divergence(a, log, prior):
    from scipy import special

    return (a - prior) * log - special.gammaln(a)


def _sums(values: np.ndarray, groups: np.ndarray, n_groups: int) -> np.ndarray:
    """Sums of rows by group, an array of shape (n_groups, n_samples)."""
    members = sparse.csr_matrix((np.ones(len(groups)), (groups, np.arange(len(groups)))), (n_groups, len(groups)))
    return members @ values


def passes_of(parts: Parts, chosen: np.ndarray, scale, counts, prior: float, power: float):
    """The map for some parts, with the numbers of their transcripts; arrays have a row for each sample."""
    classes, transcripts = (np.flatnonzero(chosen[x]) for x in (parts.of_class, parts.of_transcript))
    number = np.cumsum(chosen) - 1
    matrix = parts.classes.matrix[classes][:, transcripts].tocsr()
    if power != 1:
        matrix.data = matrix.data**power
    of_transcript, of_class = number[parts.of_transcript[transcripts]], number[parts.of_class[classes]]
    arrays = (np.ascontiguousarray(scale[:, transcripts].T), np.ascontiguousarray(counts[:, classes].T))
    return Passes(matrix, *arrays, of_transcript, of_class, prior, power), transcripts


def fixed_point(passes: Passes, a: np.ndarray, tol: float, max_iter: int, accelerate: bool):
    """The fixed point from a start of shape (n_transcripts, n_samples), and the passes each part and sample needed.

    Each part of each sample has its own step length and stops on its own, when a pass moves less of its counts than
    1 / 100 of the root of ``tol`` and, with a likelihood, gains less than ``tol`` per fragment. 0 passes: not settled.
    """
    found, needed = np.array(a), np.zeros((len(passes.sizes), a.shape[1]), np.int64)
    rows, live, n = np.arange(len(a)), np.arange(len(passes.sizes)), 0
    while n < max_iter and len(live):
        start = found[rows]
        one, before = passes(start)
        two, at_one = passes(one)
        n += 2
        total = _sums(passes.counts, passes.of_class, len(live))
        moved = passes.by_part(np.abs(two - one))
        done = (moved <= 1e-2 * np.sqrt(tol) * total) & ((at_one - before <= tol * total) | (passes.power != 1))
        needed[live] = np.where(done & (needed[live] == 0), n, np.where(done, needed[live], 0))
        found[rows] = two
        settled = done.all(axis=1)
        if accelerate and n < max_iter and not settled.all():
            found[rows] = _extrapolated(passes, start, one, two, at_one)
            n += 1
        if settled.mean() > ENOUGH:
            passes, kept = _some(passes, ~settled)
            rows, live = rows[kept], live[~settled]
    return found, needed


def _extrapolated(passes: Passes, start, one, two, at_one):
    """SQUAREM's step, followed by a pass; the second pass where it would leave the domain or lose objective."""
    first, second = one - start, two - one - (one - start)
    squares = passes.by_part(first**2) / np.maximum(passes.by_part(second**2), TINY)
    length = np.minimum(np.maximum(np.sqrt(squares), 1), 1e6)[passes.parts]
    further = start + 2 * length * first + length**2 * second
    further = np.where(further > passes.prior, further, two)  # never zero, from which nothing comes back
    after, value = passes(further)
    return np.where((value >= at_one)[passes.parts], after, two)


def _some(passes: Passes, chosen: np.ndarray) -> tuple[Passes, np.ndarray]:
    number = np.cumsum(chosen) - 1
    t, c = np.flatnonzero(chosen[passes.parts]), np.flatnonzero(chosen[passes.of_class])
    smaller = replace(
        passes,
        matrix=passes.matrix[c][:, t].tocsr(),
        scale=passes.scale[t],
        counts=passes.counts[c],
        parts=number[passes.parts[t]],
        of_class=number[passes.of_class[c]],
    )
    return smaller, t
