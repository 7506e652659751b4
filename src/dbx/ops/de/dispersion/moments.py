"""Moments of normalised counts, and dispersions guessed from them."""

from __future__ import annotations

import numpy as np

from dbx.ops.de.dispersion.posterior import MIN_DISPERSION, largest
from dbx.ops.de.glm.genes import GeneCounts
from dbx.ops.de.glm.linear import projection


def base_moments(counts: GeneCounts, size_factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sample variance of normalised counts, two arrays of shape (n_genes,)."""
    mean, variance = np.empty(len(counts)), np.empty(len(counts))
    for at, y in counts.parts():
        scaled = y / size_factors
        mean[at], variance[at] = scaled.mean(axis=1), scaled.var(axis=1, ddof=1)
    return mean, variance


def first_guess(y: np.ndarray, design: np.ndarray, size_factors: np.ndarray) -> np.ndarray:
    """Dispersions to start from, an array of shape (n_genes,).

    The smaller of two moment estimates: from the residuals of a linear model of normalised counts, and from their
    variance (Love, Huber and Anders, Genome Biology, 2014).
    """
    n_samples, n_coefficients = design.shape
    scaled = y / size_factors
    fitted = np.maximum((scaled @ projection(design)) @ design.T, 1)
    rough = (((scaled - fitted) ** 2 - fitted) / fitted**2).sum(axis=1) / (n_samples - n_coefficients)
    mean, variance = scaled.mean(axis=1), scaled.var(axis=1, ddof=1)
    by_moments = (variance - (1 / size_factors).mean() * mean) / mean**2
    return np.clip(np.minimum(np.maximum(rough, 0), by_moments), MIN_DISPERSION, largest(n_samples))
