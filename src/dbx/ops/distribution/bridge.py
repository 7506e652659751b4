"""Cumulants of sums of squares of a bridge: what a distance of two distributions is under permuted labels."""

from __future__ import annotations

import numpy as np


def bridge_moments(n: np.ndarray, weight: np.ndarray, middle: np.ndarray, spread: np.ndarray) -> tuple:
    """Mean, variance and third cumulant of sum_j w_j Z_j^2 for normal Z_j of variance 1, arrays of shape (n_rows,).

    Z_j and Z_k (j < k) have the correlation B_j (n - B_k) / sqrt(D_j D_k), as counts of a condition's cells up to the
    j-th tie have when labels are permuted.

    Parameters
    ----------
    n
        Number of cells, an array of shape (n_rows,).
    weight
        w, an array of shape (n_rows, width); 0 where no tie ends.
    middle
        B, the cells up to the tie.
    spread
        D, above 0 where the weight is.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(weight > 0, weight / spread, 0.0)
    rest = n[:, None] - middle
    low, both, high = share * middle**2, share * middle * rest, share * rest**2
    lower = np.cumsum(low, axis=1) - low
    pairs = lower * high
    squares = weight**2
    higher = np.cumsum(high[:, ::-1], axis=1)[:, ::-1] - high
    triples = (lower * both * higher).sum(axis=1)
    unequal = (weight * (pairs + low * higher)).sum(axis=1)
    variance = 2 * (squares.sum(axis=1) + 2 * pairs.sum(axis=1))
    third = 8 * ((squares * weight).sum(axis=1) + 3 * unequal + 6 * triples)
    return weight.sum(axis=1), variance, third


def three_moment_pvalues(found: np.ndarray, moments: tuple) -> np.ndarray:
    """P-values of such sums by a shifted gamma distribution with the same three cumulants."""
    from scipy import special

    mean, variance, third = moments
    with np.errstate(divide="ignore", invalid="ignore"):
        shape = 4 * variance**3 / third**2
        z = (found - mean) / np.sqrt(variance)
        return special.gammaincc(shape, np.maximum(shape + z * np.sqrt(shape), 0))
