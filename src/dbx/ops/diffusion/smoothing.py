"""How much each step of a random walk still changes the values that it averages."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from dbx.ops.diffusion.markov import power_times

MAX_GENES = 500
"""Genes of which the change is measured, drawn with the seed where there are more."""
SETTLED = 1e-3
"""Procrustes disparity below which a further step changes nothing to speak of."""
MAX_STEPS = 20


def smoothing_curve(transitions: sparse.csr_matrix, values, *, seed: int = 0) -> np.ndarray:
    """Procrustes disparity between t - 1 and t steps for t = 1, 2, ... up to the first below ``SETTLED``, or to 20.

    ``values`` are of shape (n_cells, n_columns), dense or sparse.
    """
    values = _some_columns(values, seed)
    errors: list[float] = []
    while len(errors) < MAX_STEPS and (not errors or errors[-1] >= SETTLED):
        ahead = power_times(transitions, values, 1)
        errors.append(disparity(values, ahead))
        values = ahead
    return np.array(errors)


def _some_columns(values, seed: int) -> np.ndarray:
    n_columns = values.shape[1]
    if n_columns > MAX_GENES:
        values = values[:, np.sort(np.random.default_rng(seed).choice(n_columns, MAX_GENES, replace=False))]
    return np.asarray(values.toarray() if sparse.issparse(values) else values, np.float64)


def disparity(a: np.ndarray, b: np.ndarray) -> float:
    """Squared distance of two point sets of shape (n_points, n_dims), each centred and of unit norm, after rotation.

    As ``scipy.spatial.procrustes``; 0 for sets without any spread.
    """
    a, b = (part - part.mean(axis=0) for part in (a, b))
    size = np.linalg.norm(a) * np.linalg.norm(b)
    if size == 0:
        return 0.0
    return float(max(1 - (np.linalg.svd(a.T @ b / size, compute_uv=False).sum()) ** 2, 0))
