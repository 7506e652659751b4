"""Multinomial logistic regression with a ridge penalty, on standardised sparse features."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse, special

HIGHEST = 10.0
"""Standardised features are clipped here, as by scanpy's ``scale(max_value=10)``."""


class Standards(NamedTuple):
    """Mean and standard deviation of each feature, and the value at which it is clipped."""

    mean: np.ndarray
    sd: np.ndarray
    highest: np.ndarray


def standardise(z: sparse.csr_matrix) -> tuple[sparse.csr_matrix, Standards]:
    """Features of sd 1, clipped at 10 above the mean, but not centred (so that they stay sparse); and the standards.

    A feature that never varies has sd 1.
    """
    mean = np.asarray(z.mean(axis=0)).ravel()
    square = np.asarray(z.multiply(z).mean(axis=0)).ravel()
    sd = np.sqrt(np.maximum(square - mean**2, 0))
    sd = np.where(sd > 1e-6, sd, 1.0)
    highest = mean + HIGHEST * sd
    z = z.copy()
    z.data = np.minimum(z.data, highest[z.indices]) / sd[z.indices]
    return z, Standards(mean, sd, highest)


def fit_multinomial(
    features: sparse.csr_matrix,
    codes: np.ndarray,
    weights: np.ndarray,
    penalty: float,
    *,
    max_iter: int,
    offset: np.ndarray | None = None,
    start: tuple[np.ndarray, np.ndarray] | None = None,
    ftol: float = 2.2e-9,
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel, of shape (n_features, n_classes), and bias of ``features - offset``.

    They minimise the sum of the negative log-likelihoods times the ``weights`` of rows plus ``penalty / 2`` times the
    squared kernel: strictly convex, and L-BFGS finds the one minimum, from ``start`` or zero, until a step gains less
    than ``ftol`` of it. The bias sums to zero.
    """
    from scipy import optimize

    width, n_classes = features.shape[1], int(codes.max()) + 1
    transposed, truth = features.T.tocsr(), np.eye(n_classes)[codes]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        kernel, bias = np.split(flat.reshape(width + 1, n_classes), [width])
        logits = features @ kernel + (bias if offset is None else bias - offset @ kernel)
        log_share = logits - special.logsumexp(logits, axis=1, keepdims=True)
        residual = (np.exp(log_share) - truth) * weights[:, None]
        total = residual.sum(axis=0)
        slope = transposed @ residual + penalty * kernel
        if offset is not None:
            slope -= np.outer(offset, total)
        loss = -((truth * log_share).sum(axis=1) @ weights) + penalty / 2 * (kernel**2).sum()
        return loss, np.concatenate([slope.ravel(), total])

    first = np.zeros((width + 1) * n_classes) if start is None else np.vstack(start).ravel()
    how = {"maxiter": max_iter, "gtol": 1e-6, "ftol": ftol}
    found = optimize.minimize(objective, first, jac=True, method="L-BFGS-B", options=how)
    kernel, bias = np.split(found.x.reshape(width + 1, n_classes), [width])
    return kernel, bias[0] - bias.mean()
