"""Maximum likelihood of small mixtures by an interior-point method, with a bound of the distance to the optimum."""

from __future__ import annotations

import numpy as np

MOST = 100
"""Iterations; about 15 are needed."""
CENTRE = 0.1
"""The complementarity that each iteration aims at, as a fraction of that before."""
WITHIN = 0.99
"""Fraction of the way to the boundary."""
ZERO = 1e-3
"""Members below this fraction of their slack are zero at the maximum."""
TINY = 1e-300


def maximised(weights: np.ndarray, counts: np.ndarray, tol: float) -> tuple[np.ndarray, np.ndarray]:
    """Counts a >= 0 that maximise sum(counts * log(weights @ a)) - sum(a), and the number of iterations.

    ``weights`` has shape (n_problems, n_classes, n_members), ``counts`` (n_problems, n_classes). The log-likelihood
    of shares is below its maximum by at most the largest derivative minus 1, which is what ``tol`` bounds. A problem
    that does not get there has 0 iterations.
    """
    total = counts.sum(axis=1)
    found, iterations = np.zeros((len(weights), weights.shape[2])), np.zeros(len(weights), np.int64)
    live = np.flatnonzero(total > 0)
    iterations[total == 0] = 1
    w, share = weights[live], counts[live] / total[live, None]
    a = np.full((len(live), w.shape[2]), 1 / w.shape[2])
    for _ in range(3):
        a = a * _slopes(w, share, a)[2]
    a = np.maximum(a, 1e-4 / w.shape[2])
    d, r, slope = _slopes(w, share, a)
    slack = np.maximum(1 - slope, 1e-2)
    for iteration in range(1, MOST + 1):
        step, slack_step = _direction(w, a, slack, d, r, slope)
        length = _longest(a, step, slack, slack_step)
        a, slack = a + length * step, slack + length * slack_step
        d, r, slope = _slopes(w, share, a)
        done = _bound(a, slope) <= tol
        if done.any():
            positive = np.where(a > ZERO * slack, a * slope, 0)[done]
            found[live[done]] = positive * (total[live[done]] / positive.sum(axis=1))[:, None]
            iterations[live[done]] = iteration
            left = ~done
            live, w, share, a, slack, d, r, slope = (x[left] for x in (live, w, share, a, slack, d, r, slope))
        if not len(live):
            break
    return found, iterations


def _slopes(w, share, a):
    """Likelihood of each class, share over it, and derivative of the log-likelihood in each member."""
    d = np.maximum(np.matmul(w, a[..., None])[..., 0], TINY)
    r = share / d
    return d, r, np.matmul(r[:, None], w)[:, 0]


def _direction(w, a, slack, d, r, slope):
    """Newton's step for slope + slack = 1 and a * slack = the aimed-at complementarity, scaled by the root of a."""
    aim = CENTRE * (a * slack).mean(axis=1, keepdims=True)
    root = np.sqrt(a)
    half = w * np.sqrt(r / d)[..., None] * root[:, None]
    system = np.matmul(half.transpose(0, 2, 1), half)
    diagonal = np.arange(a.shape[1])
    system[:, diagonal, diagonal] += slack + 1e-14
    right = root * (slope - 1) + aim / root
    step = root * np.linalg.solve(system, right[..., None])[..., 0]
    return step, aim / a - slack - slack * step / a


def _longest(a, step, slack, slack_step):
    """Largest step length, at most 1, with which everything stays above zero."""
    fastest = np.maximum((-step / a).max(axis=1), (-slack_step / slack).max(axis=1))
    return np.minimum(1, WITHIN / np.maximum(fastest, WITHIN))[:, None]


def _bound(a, slope):
    """Largest possible gain of the log-likelihood of shares, per fragment."""
    total = a.sum(axis=1)
    return slope.max(axis=1) * total - 1
