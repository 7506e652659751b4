"""What the regressions of all genes share, and what follows from fitted coefficients."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbx.ops.de.glm.linear import gram, quadratic

RIDGE = 1e-6 / np.log(2) ** 2
"""DESeq2's 1e-6 on the log2 scale."""


class Regression(NamedTuple):
    """What the regressions of all genes share."""

    design: np.ndarray
    """Array of shape (n_samples, n_coefficients)."""
    size_factors: np.ndarray
    """Array of shape (n_samples,)."""
    min_mu: float
    """Means below this many counts are taken as this in weights and deviances."""
    ridge: np.ndarray
    """Array of shape (n_coefficients,): inverse prior variances of the coefficients in natural logarithms."""
    repeats: np.ndarray
    """Array of shape (n_samples,): how many samples each stands for; one, but for pseudo-cells."""
    lowest: np.ndarray
    """Array of shape (n_samples,): logarithm of the smallest mean."""

    def log_means(self, beta: np.ndarray) -> np.ndarray:
        """Log s + X beta, an array of shape (n_genes, n_samples)."""
        return np.log(self.size_factors) + beta @ self.design.T

    def means(self, beta: np.ndarray) -> np.ndarray:
        """Fitted means s exp(X beta), an array of shape (n_genes, n_samples), without the floor."""
        return self.size_factors * np.exp(beta @ self.design.T)

    @property
    def is_one_mean(self) -> bool:
        """An intercept alone, nearly without a prior."""
        return bool((self.design == 1).all()) and self.design.shape[1] == 1 and self.ridge[0] <= RIDGE


def regression(design: np.ndarray, size_factors: np.ndarray, min_mu: float = 0.5, ridge=RIDGE) -> Regression:
    """A regression with DESeq2's nearly flat prior, unless ``ridge`` says otherwise."""
    ridge = np.broadcast_to(ridge, design.shape[1]).astype(np.float64)
    lowest = np.full(len(design), np.log(min_mu))
    return Regression(design, size_factors, float(min_mu), ridge, np.ones(len(design)), lowest)


class Moments(NamedTuple):
    """What follows from fitted coefficients, for a block of genes."""

    mu: np.ndarray
    """Array of shape (n_genes, n_samples), without the floor."""
    covariance: np.ndarray
    """Array of shape (n_genes, n_coefficients, n_coefficients), natural logarithms."""
    hat: np.ndarray
    """Array of shape (n_genes, n_samples): leverages."""


def moments(model: Regression, dispersion: np.ndarray, beta: np.ndarray, diverged: np.ndarray | None = None) -> Moments:
    """Means, covariance (a sandwich around the ridge) and leverages; the latter from where iterations diverged."""
    mu = model.means(beta)
    information, bread = _information(model, dispersion, mu)
    covariance = bread @ information @ bread
    hat = _leverage(model, dispersion, mu, bread)
    if diverged is not None and (diverged != beta).any():
        moved = np.any(diverged != beta, axis=1)
        with np.errstate(over="ignore"):
            there = np.minimum(model.means(np.clip(diverged[moved], -100, 100)), 1e100)
        hat[moved] = _leverage(model, dispersion[moved], there, _information(model, dispersion[moved], there)[1])
    return Moments(mu, covariance, hat)


def _information(model: Regression, dispersion: np.ndarray, mu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    floored = np.maximum(mu, np.exp(model.lowest))
    information = gram(model.repeats * floored / (1 + dispersion[:, None] * floored), model.design)
    return information, np.linalg.inv(information + np.diag(model.ridge))


def _leverage(model: Regression, dispersion: np.ndarray, mu: np.ndarray, bread: np.ndarray) -> np.ndarray:
    floored = np.maximum(mu, np.exp(model.lowest))
    return floored / (1 + dispersion[:, None] * floored) * quadratic(bread, model.design)
