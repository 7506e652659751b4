"""Uncertainty of estimates from repeated ones."""

from __future__ import annotations

import numpy as np

PSEUDO = 5.0
"""Counts added to the mean, below which the relative variance would only say that a transcript is rare."""
LEAST = 0.01


def relative_variance(draws: np.ndarray) -> np.ndarray:
    """Inferential relative variance: how far the variance of repeats is above that of counts, relative to their mean.

    max(variance - mean, 0) / (mean + 5) + 0.01 of the repeats of shape (n_samples, n_repeats, n_transcripts), as
    Zhu et al., Nucleic Acids Research, 2019, define it.
    """
    mean, variance = draws.mean(axis=1), draws.var(axis=1, ddof=1)
    return np.maximum(variance - mean, 0) / (mean + PSEUDO) + LEAST
