"""Variational Bayes of small mixtures by Newton's method on the fixed point, with ordinary passes in between."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbx.ops.abundance.interior import TINY

FIRST = 5
"""Ordinary passes before the first step of Newton's."""


class At(NamedTuple):
    """Parameters of the Dirichlet distribution, and what a pass from there gives."""

    a: np.ndarray
    e: np.ndarray
    """Exponential of the mean of the logarithm."""
    d: np.ndarray
    r: np.ndarray
    slope: np.ndarray
    change: np.ndarray
    bound: np.ndarray
    """Evidence lower bound."""

    def some(self, chosen) -> At:
        return At(*(x[chosen] for x in self))

    def or_else(self, mask, other: At) -> At:
        """Where the mask is False, the other."""
        return At(*(np.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x, y) for x, y in zip(self, other, strict=True)))


def settled(weights, counts, start, prior: float, tol: float, max_iter: int) -> tuple[np.ndarray, np.ndarray]:
    """Parameters a with a = prior + expected counts, and the number of iterations, 0 if there were too few.

    ``start`` are parameters, an array of shape (n_problems, n_members), at least ``prior``. A step of Newton's is
    taken where it raises the evidence lower bound and brings the fixed point nearer.
    """
    found, iterations = np.array(start), np.zeros(len(weights), np.int64)
    live, n, w, at = np.arange(len(weights)), counts, weights, _at(weights, counts, start, prior)
    for iteration in range(1, max_iter + 1):
        done = np.abs(at.change).sum(axis=1) <= 1e-2 * np.sqrt(tol) * n.sum(axis=1)
        if done.any():
            found[live[done]], iterations[live[done]] = _polished(w[done], n[done], at.some(done), prior), iteration
            live, n, w, at = live[~done], n[~done], w[~done], at.some(~done)
        if not len(live):
            break
        new = _at(w, n, at.a + at.change, prior)
        if iteration > FIRST:
            step = _at(w, n, _newton(w, at, prior), prior)
            rounding = 1e-13 * np.abs(new.bound)
            nearer = np.abs(step.change).sum(axis=1) < np.abs(new.change).sum(axis=1)
            better = step.bound >= new.bound + np.where(nearer, -rounding, rounding)
            new = step.or_else(better, new)
        at = new
    return found, iterations


def _at(w, n, a, prior) -> At:
    from scipy import special

    log = special.digamma(a)
    e = np.exp(log)
    d = np.maximum(np.matmul(w, e[..., None])[..., 0], TINY)
    r = n / d
    slope = np.matmul(r[:, None], w)[:, 0]
    bound = (n * np.log(d)).sum(axis=1) - ((a - prior) * log - special.gammaln(a)).sum(axis=1)
    return At(a, e, d, r, slope, prior + e * slope - a, bound)


def _polished(w, n, at: At, prior: float) -> np.ndarray:
    """One more step, so that what is left of the change is its square."""
    last = _at(w, n, _newton(w, at, prior), prior)
    nearer = np.abs(last.change).sum(axis=1) < np.abs(at.change).sum(axis=1)
    last = last.or_else(nearer, at)
    return last.a + last.change


def _newton(w, at: At, prior: float):
    """The zero of the change, linearised; kept above the prior."""
    from scipy import special

    derivative = at.e * special.zeta(2.0, at.a)
    half = w * np.sqrt(at.r / at.d)[..., None]
    system = at.e[:, :, None] * np.matmul(half.transpose(0, 2, 1), half) * derivative[:, None]
    diagonal = np.arange(at.a.shape[1])
    system[:, diagonal, diagonal] += 1 - derivative * at.slope
    try:
        new = at.a + np.linalg.solve(system, at.change[..., None])[..., 0]
    except np.linalg.LinAlgError:
        return at.a + at.change
    return np.where(new > prior, new, prior + 0.1 * (at.a - prior))
