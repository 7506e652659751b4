"""Stabilised bi-conjugate gradients for several right-hand sides at once (van der Vorst, 1992)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

TINY = 1e-300


def bicgstab(
    system: sparse.csr_matrix,
    right: np.ndarray,
    precondition: Callable[[np.ndarray], np.ndarray],
    goal: Callable[[np.ndarray], np.ndarray],
    max_iterations: int,
) -> tuple[np.ndarray, bool]:
    """Solve ``system @ x = right`` for right-hand sides of shape (n, n_columns), each column by its own iteration.

    ``precondition`` applies an approximate inverse. ``goal`` maps the present solution to the largest entry that the
    residual of each column may have. An iteration that breaks down starts again from where it is.

    Returns
    -------
    The solution, and whether every column reached its goal.
    """
    x = np.zeros_like(right)
    residual = right.copy()
    for _ in range(max_iterations):
        if np.all(np.abs(residual).max(axis=0) <= goal(x)):
            return x, True
        x, residual, used = _run(system, right, x, residual, precondition, goal, max_iterations)
        max_iterations -= used
        if max_iterations <= 0:
            break
    return x, bool(np.all(np.abs(residual).max(axis=0) <= goal(x)))


def _run(system, right, x, residual, precondition, goal, limit: int):
    """Iterate until the goal or a breakdown; (solution, its true residual, number of iterations)."""
    shadow, used = residual.copy(), 0
    direction = pushed = np.zeros_like(residual)
    rho = alpha = omega = np.ones(residual.shape[1])
    for _ in range(limit):
        used += 1
        rho_before, rho = rho, _dots(shadow, residual)
        beta = _ratio(rho, rho_before) * _ratio(alpha, omega)
        direction = residual + beta * (direction - omega * pushed)
        ahead = precondition(direction)
        pushed = system @ ahead
        alpha = _ratio(rho, _dots(shadow, pushed))
        half = residual - alpha * pushed
        corrected = precondition(half)
        turned = system @ corrected
        omega = _ratio(_dots(turned, half), _dots(turned, turned))
        x = x + alpha * ahead + omega * corrected
        residual = half - omega * turned
        size = np.abs(residual).max(axis=0)
        stuck = (np.abs(rho) < TINY) | (omega == 0) | ~np.isfinite(size)
        if np.all(size <= 0.9 * goal(x)) or np.any(stuck & ~(size <= goal(x))):
            break
    x = np.where(np.isfinite(x), x, 0)
    return x, right - system @ x, used


def _dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->j", a, b)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A / b, 0 where b is 0."""
    return np.divide(a, b, out=np.zeros_like(a), where=np.abs(b) > TINY)
