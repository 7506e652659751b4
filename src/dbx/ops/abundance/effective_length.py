"""Effective lengths: at how many positions of a transcript a fragment can start."""

from __future__ import annotations

import numpy as np


def effective_lengths(lengths: np.ndarray, fragment_length: float | np.ndarray) -> np.ndarray:
    """Expected number of starting positions, at least 1.

    ``fragment_length`` is the mean, for length - mean + 1, or an array of the probability of each length from 0 on,
    for the sum of probability times length - l + 1 over fragments of length l that fit.
    """
    try:
        p = np.asarray(fragment_length, np.float64)
    except (TypeError, ValueError):
        msg = (
            "fragment_length must be the mean length of fragments, or an array of the probability of each length from "
            f"0 on; got {type(fragment_length).__name__}."
        )
        raise ValueError(msg) from None
    if not (np.isfinite(p) & (p >= 0)).all() or p.sum() <= 0:
        msg = "fragment_length must be a length above 0, or probabilities of lengths of at least 0."
        raise ValueError(msg)
    if p.ndim == 0:
        return np.maximum(lengths - p + 1, 1.0)
    p = p / p.sum()
    mass, moment = np.cumsum(p), np.cumsum(p * np.arange(len(p)))
    fits = np.minimum(lengths.astype(np.int64), len(p) - 1)
    return np.maximum(mass[fits] * (lengths + 1) - moment[fits], 1.0)
