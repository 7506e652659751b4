"""Logistic regression with weights and a ridge penalty, by Newton's method."""

from __future__ import annotations

import numpy as np

MAX_STEPS, TOLERANCE = 50, 1e-10


def ridge_logistic(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, penalty: np.ndarray | float, centre: np.ndarray | None = None
) -> np.ndarray:
    """Coefficients of the columns of ``x`` that minimise the weighted deviance plus penalty times squared distance.

    Parameters
    ----------
    x
        Array of shape (n_rows, n_columns).
    y
        Array of shape (n_rows,): 0 or 1.
    weight
        Array of shape (n_rows,): weight of each row.
    penalty
        Of each coefficient's squared distance to ``centre``, halved.
    centre
        Array of shape (n_columns,); zero by default.
    """
    centre = np.zeros(x.shape[1]) if centre is None else centre
    penalty = np.broadcast_to(penalty, centre.shape)
    beta = centre.copy()
    for _ in range(MAX_STEPS):
        mean = 1 / (1 + np.exp(-(x @ beta)))
        gradient = x.T @ (weight * (y - mean)) - penalty * (beta - centre)
        curvature = (x * (weight * mean * (1 - mean))[:, None]).T @ x + np.diag(penalty + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        step *= min(1, 5 / max(np.abs(step).max(), 1e-12))  # far from the optimum the curvature is too small
        beta = beta + step
        if np.abs(step).max() < TOLERANCE:
            break
    return beta
