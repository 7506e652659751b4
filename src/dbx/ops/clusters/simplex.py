"""Least squares with weights on the simplex: cells as mixtures of a few points, by an active-set method.

Arrays may be NumPy's, for which rows with the same support share a factorisation, or JAX's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dbx.ops.arrays import array_library

STEPS = 20
"""Changes of the support for each point, at most; each lowers the error, and a few times k are usual."""
ROWS = 4096
"""Rows whose systems are gathered at once."""


class Search(NamedTuple):
    """Weights that are feasible, the support on which they improve next, and whether a row is at its optimum."""

    weights: Any
    support: Any
    done: Any
    step: Any


def simplex_weights(z: Any, points: Any, start: np.ndarray | None = None) -> Any:
    """Non-negative weights w of each row that sum to 1 and minimise abs(z - w points)^2.

    ``z`` has shape (n_rows, n_dims), ``points`` (k, n_dims), ``start`` (feasible weights of an earlier solution) and
    the result (n_rows, k). Differentiable by JAX in both with the support held, as it is almost everywhere.
    """
    gram, cross = _moments(z, points)
    if array_library(z) is np:
        return _with_support(gram, cross, _support(gram, cross, start))
    fixed = jax.lax.stop_gradient((gram, cross))
    return _with_support(gram, cross, _support_on_device(*fixed))


def _moments(z, points):
    """Products of the points with each other, of full rank, and with the rows, both around the points' mean."""
    xp = array_library(z)
    middle = points.mean(axis=0)
    centred = points - middle
    gram = centred @ centred.T
    k = len(points)
    least = 10 * float(np.finfo(z.dtype).eps) * xp.trace(gram) / k + float(np.finfo(z.dtype).tiny)
    return gram + least * xp.eye(k, dtype=z.dtype), (z - middle) @ centred.T


def _start(gram, cross) -> Search:
    xp = array_library(cross)
    k = len(gram)
    nearest = (cross - xp.diag(gram) / 2).argmax(axis=1)
    support = nearest[:, None] == xp.arange(k)
    return Search(support.astype(cross.dtype), support, xp.zeros(len(cross), bool), 0)


def _support(gram: np.ndarray, cross: np.ndarray, start: np.ndarray | None) -> np.ndarray:
    found = _start(gram, cross)
    if start is not None:
        found = Search(start, start > 0, found.done, 0)
    support = found.support.copy()
    left = np.arange(len(cross))
    while len(left) and found.step < STEPS * len(gram):
        found = _improved(gram, cross[left], found)
        support[left[found.done]] = found.support[found.done]
        open_ = ~found.done
        left = left[open_]
        found = Search(found.weights[open_], found.support[open_], found.done[open_], found.step)
    support[left] = found.weights > 0
    return support


def _support_on_device(gram, cross):
    def unfinished(found: Search):
        return ~found.done.all() & (found.step < STEPS * len(gram))

    found = jax.lax.while_loop(unfinished, lambda found: _improved(gram, cross, found), _start(gram, cross))
    return found.support


def _improved(gram, cross, found: Search) -> Search:
    """The best weights on the support; towards them as far as they are feasible, else one more point where it helps."""
    xp = array_library(cross)
    weights, support = found.weights, found.support
    best = _with_support(gram, cross, support)
    feasible = (best >= 0).all(axis=1)
    # to the first weight that vanishes
    shrinks = support & (best < 0)
    share = xp.where(shrinks, weights / xp.where(shrinks, weights - best, 1), 1)
    length = share.min(axis=1)[:, None]
    moved = xp.where(feasible[:, None], best, weights + length * (best - weights))
    kept = support & ~(shrinks & (share <= length))
    moved = xp.where(kept, xp.maximum(moved, 0), 0)
    # how much the error falls with more weight on each other point
    gain = cross - moved @ gram
    gain = gain - (moved * gain).sum(axis=1, keepdims=True)
    gain = xp.where(support, -xp.inf, gain)
    enough = 100 * float(np.finfo(cross.dtype).eps) * (xp.abs(cross).max(axis=1) + xp.diag(gram).max())
    done = found.done | (feasible & (gain.max(axis=1) <= enough))
    entering = (gain.argmax(axis=1)[:, None] == xp.arange(len(gram))) & (feasible & ~done)[:, None]
    next_ = xp.where(feasible[:, None], support | entering, kept)
    unchanged = found.done[:, None]
    return Search(xp.where(unchanged, weights, moved), xp.where(unchanged, support, next_), done, found.step + 1)


def _with_support(gram, cross, support):
    """Weights that minimise the error with sum 1, zero outside the support and of any sign within."""
    if array_library(cross) is np:
        return _by_supports(gram, cross, support)
    return jnp.linalg.solve(_system(gram, support), _right_side(cross, support)[..., None])[:, :-1, 0]


def _by_supports(gram: np.ndarray, cross: np.ndarray, support: np.ndarray) -> np.ndarray:
    """The same, with the system of each distinct support inverted once."""
    number = np.zeros(len(support), np.int64)
    for column in np.packbits(support, axis=1).T:
        number = np.unique(number * 256 + column, return_inverse=True)[1].astype(np.int64)
    first = np.unique(number, return_index=True)[1]
    inverse = np.linalg.inv(_system(gram, support[first]))
    weights = np.empty_like(cross)
    for start in range(0, len(cross), ROWS):
        rows = slice(start, start + ROWS)
        right = _right_side(cross[rows], support[rows])
        weights[rows] = (inverse[number[rows]] @ right[..., None])[:, :-1, 0]
    return weights


def _system(gram, support):
    """The linear conditions of the minimum with its multiplier, an array of shape (n, k + 1, k + 1)."""
    xp = array_library(gram)
    inside = support.astype(gram.dtype)
    top = gram * (inside[:, :, None] * inside[:, None, :])
    top = top + xp.eye(len(gram), dtype=gram.dtype) * (1 - inside)[:, None]
    top = xp.concatenate([top, inside[:, :, None]], axis=2)
    bottom = xp.concatenate([inside, xp.zeros_like(inside[:, :1])], axis=1)[:, None]
    return xp.concatenate([top, bottom], axis=1)


def _right_side(cross, support):
    xp = array_library(cross)
    return xp.concatenate([xp.where(support, cross, 0), xp.ones_like(cross[:, :1])], axis=1)
