"""Metastable states of a random walk from its Schur vectors: fuzzy memberships that are as crisp as possible.

Weber and Galliat, ZIB-Report 2002; Deuflhard and Weber, Linear Algebra and its Applications 2005; Reuter et al.,
Journal of Chemical Theory and Computation 2018. The reference implementation is pyGPCCA.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

SMALLEST = 0.5
"""Smallest mean membership of a state that is allowed, over the smallest one at the start."""
SINGULAR = 100.0
"""Condition number of the memberships from which on two states count as one."""
MAX_SEARCHED = 10_000
MAX_ASCENTS = 100
MAX_ROUNDS = 100
TOLERANCE = 1e-9
"""Gain of crispness, and violation of a constraint, that count as none."""


def memberships(vectors: np.ndarray) -> np.ndarray:
    """Memberships of cells in as many states as there are Schur vectors: rows sum to 1, shape (n_cells, n_states).

    They are ``X A`` for the vectors X scaled to a first column of ones, with A between the inner simplex of the
    furthest cells and the crispest memberships that can be reached from there.
    """
    x = vectors * len(vectors) ** 0.5
    found = x @ crispest(x, feasible(x, np.linalg.inv(x[inner_simplex(x)])))
    found = np.maximum(found, 0)
    return found / found.sum(axis=1, keepdims=True)


def inner_simplex(x: np.ndarray) -> np.ndarray:
    """Rows of ``x`` furthest apart: the one furthest from 0, then each furthest from the space of those before it."""
    first = int((x**2).sum(axis=1).argmax())
    chosen, rest = [first], x - x[first]
    for _ in range(x.shape[1] - 1):
        size = (rest**2).sum(axis=1)
        chosen.append(int(size.argmax()))
        away = rest[chosen[-1]] / np.sqrt(size.max())
        rest = rest - np.outer(rest @ away, away)
    return np.array(chosen)


def feasible(x: np.ndarray, a: np.ndarray) -> np.ndarray:
    """The nearest A by its lower right part for which memberships are at least 0 and sum to 1."""
    a = a.copy()
    a[1:, 0] = -a[1:, 1:].sum(axis=1)
    a[0] = -(x[:, 1:] @ a[1:]).min(axis=0)
    return a / a[0].sum()


def crispness(a: np.ndarray) -> float:
    """How crisp the memberships X A are, 1 for certain ones: mean of their squares over their mean, over states."""
    return float(((a**2).sum(axis=0) / np.maximum(a[0], 1e-300)).mean())


def crispest(x: np.ndarray, start: np.ndarray) -> np.ndarray:
    """A of the crispest memberships on the way up from ``start``.

    Crispness is convex in A, and what A may be a polytope: the vertex that is highest by the gradient is at least as
    crisp as the present A, so that going from vertex to vertex ends in a local maximum after few linear programmes. If
    two states become one on the way, the search of the reference implementation is used.
    """
    found = _vertex(x, start)
    return found if np.linalg.cond(found / found[0]) < SINGULAR else _searched(x, start)


def _searched(x: np.ndarray, start: np.ndarray) -> np.ndarray:
    """A local maximum by the simplex method of Nelder and Mead in the lower right part of A."""
    from scipy.optimize import minimize

    m = len(start)

    def filled(inner: np.ndarray) -> np.ndarray:
        return feasible(x, np.pad(inner.reshape(m - 1, m - 1), ((1, 0), (1, 0))))

    inner = start[1:, 1:].ravel()
    options = {"maxiter": MAX_SEARCHED, "maxfev": MAX_SEARCHED, "xatol": 1e-4, "fatol": 1e-6}
    found = minimize(lambda inner: -crispness(filled(inner)), inner, method="Nelder-Mead", options=options)
    return filled(found.x)


def _vertex(x: np.ndarray, a: np.ndarray) -> np.ndarray:
    active = np.unique(np.concatenate([x.argmin(axis=0), x.argmax(axis=0), inner_simplex(x), (x @ a).argmin(axis=0)]))
    least = SMALLEST * a[0].min()
    for _ in range(MAX_ASCENTS):
        slope = 2 * a / a[0]
        slope[0] = -(a[1:] ** 2).sum(axis=0) / a[0] ** 2
        further, active = _highest(x, slope, active, least)
        if (further[0] <= 0).any() or crispness(further) <= crispness(a) + TOLERANCE:
            return a
        a = further
    return a


def _highest(x: np.ndarray, slope: np.ndarray, active: np.ndarray, least: float):
    """(A with the largest sum of ``slope * A``, rows of ``x`` that bound it); no state's mean is below ``least``."""
    from scipy.optimize import linprog

    m = slope.shape[0]
    sums = np.kron(np.eye(m), np.ones((1, m)))
    ranges = [(least, None)] * m + [(None, None)] * (m * m - m)
    for _ in range(MAX_ROUNDS):
        above = np.kron(-x[active], np.eye(m))
        solved = linprog(-slope.ravel(), above, np.zeros(len(above)), sums, np.eye(m)[0], bounds=ranges)
        if solved.x is None:
            return np.zeros_like(slope), active
        found = solved.x.reshape(m, m)
        values = x @ found
        if values.min() >= -TOLERANCE:
            break
        further = np.unique(np.concatenate([active, values.argmin(axis=0)]))
        if len(further) == len(active):  # what is left is within the solver's own tolerance
            break
        active = further
    return feasible(x, found), active


def coarse_transitions(transitions: sparse.csr_matrix, chi: np.ndarray) -> np.ndarray:
    """Transition matrix between the states of memberships chi: ``(chi' chi)^-1 chi' T chi``."""
    return np.linalg.solve(chi.T @ chi, chi.T @ (transitions @ chi))
