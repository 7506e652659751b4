"""A mixture of normal distributions with one covariance, by expectation-maximisation from several starts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dbx.data.threads import one_blas_thread
from dbx.ops.clusters.kmeans import best_kmeans

CELLS_OF_STARTS = 20_000
"""Cells on which starts are compared; the best one is refined on all cells."""


@dataclass(frozen=True)
class TiedMixture:
    """A fitted mixture."""

    means: np.ndarray
    """Array of shape (n_components, n_dims)."""
    covariance: np.ndarray
    """Array of shape (n_dims, n_dims)."""
    shares: np.ndarray
    """Proportions, with sum 1."""
    log_likelihood: float
    """Mean over the points, in nats."""

    @property
    def n_parameters(self) -> int:
        """Free parameters: means, covariance and proportions."""
        k, d = self.means.shape
        return k * d + d * (d + 1) // 2 + k - 1

    def bic(self, n_points: float) -> float:
        """Bayesian information criterion as if the mean log-likelihood were that of ``n_points`` independent points."""
        return -2 * n_points * self.log_likelihood + self.n_parameters * float(np.log(n_points))


def tied_mixture(
    x: np.ndarray,
    n_components: int,
    *,
    shrinkage: float = 0.0,
    n_init: int = 10,
    max_iter: int = 300,
    tol: float = 1e-6,
    seed: int = 0,
) -> TiedMixture:
    """The mixture of largest likelihood among starts from k-means.

    Parameters
    ----------
    x
        Array of shape (n_points, n_dims), float64.
    n_components
        Number of normal distributions.
    shrinkage
        Weight of a spherical covariance of the same trace against the estimated one.
    n_init
        Number of starts.
    max_iter, tol
        Maximum number of iterations, and the change of the mean log-likelihood below which they stop.
    seed
        Seed of the starts.
    """
    rng = np.random.default_rng(seed)
    some = x if len(x) <= CELLS_OF_STARTS else x[np.sort(rng.choice(len(x), CELLS_OF_STARTS, replace=False))]
    with one_blas_thread():
        starts = [
            best_kmeans(some, n_components, n_init=1, max_iter=100, seed=int(rng.integers(2**31))).labels
            for _ in range(n_init)
        ]
        found = [_maximised(some, _hard(labels, n_components), shrinkage, max_iter, tol) for labels in starts]
        best = max(found, key=lambda one: one.log_likelihood)
        return best if some is x else _maximised(x, memberships(x, best)[0], shrinkage, max_iter, tol)


def of_partition(x: np.ndarray, labels: np.ndarray, n_components: int, *, shrinkage: float = 0.0) -> TiedMixture:
    """The mixture with the means, proportions and pooled covariance of a partition."""
    found = _moments(x, _hard(labels, n_components), shrinkage)
    return TiedMixture(*found, memberships(x, TiedMixture(*found, np.nan))[1])


def memberships(x: np.ndarray, mixture: TiedMixture) -> tuple[np.ndarray, float]:
    """Probabilities of the components, an array of shape (n_points, n_components), and the mean log-likelihood."""
    root = np.linalg.cholesky(mixture.covariance)
    whitened, means = (np.linalg.solve(root, part.T).T for part in (x, mixture.means))
    with np.errstate(divide="ignore"):
        scores = whitened @ means.T - (means**2).sum(axis=1) / 2 + np.log(mixture.shares)
    top = scores.max(axis=1, keepdims=True)
    shares = np.exp(scores - top)
    total = shares.sum(axis=1, keepdims=True)
    each = (top + np.log(total)).ravel() - (whitened**2).sum(axis=1) / 2
    constant = np.log(np.diag(root)).sum() + x.shape[1] * np.log(2 * np.pi) / 2
    return shares / total, float(each.mean() - constant)


def _hard(labels: np.ndarray, n_components: int) -> np.ndarray:
    return (labels[:, None] == np.arange(n_components)).astype(np.float64)


def _maximised(x, shares, shrinkage: float, max_iter: int, tol: float) -> TiedMixture:
    before = -np.inf
    for _ in range(max_iter):
        moments = _moments(x, shares, shrinkage)
        shares, likelihood = memberships(x, TiedMixture(*moments, np.nan))
        if abs(likelihood - before) < tol:
            break
        before = likelihood
    return TiedMixture(*moments, likelihood)


def _moments(x, shares, shrinkage: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, covariance within components, proportions; the covariance has at least a millionth of the variance."""
    n, d = x.shape
    sizes = shares.sum(axis=0)
    means = shares.T @ x / np.maximum(sizes, 1e-12)[:, None]
    squares = x.T @ x
    within = (squares - (means.T * sizes) @ means) / n
    ridge = max(np.trace(squares) / n / d, 1e-300) * 1e-6
    sphere = np.trace(within) / d * np.eye(d)
    covariance = (1 - shrinkage) * within + shrinkage * sphere + ridge * np.eye(d)
    return means, (covariance + covariance.T) / 2, sizes / n
