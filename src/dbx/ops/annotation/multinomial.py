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
    offset: np.ndarray,
    codes: np.ndarray,
    penalty: float,
    *,
    max_iter: int,
    weights: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel, of shape (n_features, n_classes), and bias that minimise the mean loss of ``features - offset``.

    The objective is the mean of the negative log-likelihood plus ``penalty / 2`` times the squared kernel: strictly
    convex, and L-BFGS finds its one minimum. The bias sums to zero. ``weights`` of rows have the mean 1.
    """
    from scipy import optimize

    (n, width), n_classes = features.shape, int(codes.max()) + 1
    of_row = np.ones((n, 1)) if weights is None else weights[:, None]
    transposed, truth = features.T.tocsr(), np.zeros((n, n_classes))
    truth[np.arange(n), codes] = 1

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        kernel, bias = np.split(flat.reshape(width + 1, n_classes), [width])
        logits = features @ kernel + (bias - offset @ kernel)
        log_share = logits - special.logsumexp(logits, axis=1, keepdims=True)
        residual = of_row * (np.exp(log_share) - truth) / n
        total = residual.sum(axis=0)
        slope = transposed @ residual - np.outer(offset, total) + penalty * kernel
        loss = -(of_row * truth * log_share).sum() / n + penalty / 2 * (kernel**2).sum()
        return loss, np.concatenate([slope.ravel(), total])

    start = np.zeros((width + 1) * n_classes)
    found = optimize.minimize(
        objective, start, jac=True, method="L-BFGS-B", options={"maxiter": max_iter, "gtol": 1e-6}
    )
    kernel, bias = np.split(found.x.reshape(width + 1, n_classes), [width])
    return kernel, bias[0] - bias.mean()
