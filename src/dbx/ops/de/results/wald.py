"""Tests of fold changes."""

from __future__ import annotations

import numpy as np
from scipy import special

from dbx.ops.checks import check_known

ALTERNATIVES = {"greaterAbs": "two-sided", "lessAbs": "less-abs", "greater": "greater", "less": "less"}
"""DESeq2's names and ours."""


def wald_test(
    change: np.ndarray, error: np.ndarray, lfc_threshold: float = 0.0, alternative: str = "two-sided"
) -> tuple[np.ndarray, np.ndarray]:
    """Statistic and p-value of each gene under the normal distribution, two arrays of shape (n_genes,).

    Parameters
    ----------
    change, error
        Fold changes and their standard errors, arrays of shape (n_genes,), and with them the threshold, all natural
        logarithms or all log2.
    lfc_threshold
        T, not negative.
    alternative
        What is claimed of the change b: ``"two-sided"`` |b| > T, ``"less-abs"`` |b| < T, ``"greater"`` b > T or
        ``"less"`` b < -T; DESeq2's names ``"greaterAbs"`` and ``"lessAbs"`` will do.

    Raises
    ------
    ValueError
        No such alternative; a negative threshold; ``"less-abs"`` with a threshold of zero, which no change can satisfy.

    Notes
    -----
    As DESeq2 1.38 (Love, Huber and Anders, Genome Biology, 2014): beyond a threshold the two-sided p-value is twice the
    tail beyond the distance from T to |b|, at most 1 (``"greaterAbs2014"`` in later versions), and a statistic on the
    wrong side of its threshold is 0.
    """
    alternative = ALTERNATIVES.get(alternative, alternative)
    check_known(alternative, tuple(ALTERNATIVES.values()), "alternative")
    if lfc_threshold < 0 or (alternative == "less-abs" and lfc_threshold == 0):
        needed = "a positive lfc_threshold" if alternative == "less-abs" else "an lfc_threshold of zero or more"
        msg = f"alternative={alternative!r} needs {needed}, not {lfc_threshold}."
        raise ValueError(msg)
    if alternative == "two-sided":
        distance = (np.abs(change) - lfc_threshold) / error
        statistic = (change - np.clip(change, -lfc_threshold, lfc_threshold)) / error
        return statistic, np.minimum(2 * special.ndtr(-distance), 1)
    above, below = (change - lfc_threshold) / error, (change + lfc_threshold) / error
    if alternative == "greater":
        return np.maximum(above, 0), special.ndtr(-above)
    if alternative == "less":
        return np.minimum(below, 0), special.ndtr(below)
    within = np.minimum(-above, below)
    return np.maximum(within, 0), special.ndtr(-within)


def likelihood_ratio_test(full: np.ndarray, reduced: np.ndarray, df: int) -> tuple[np.ndarray, np.ndarray]:
    """Statistic and p-value of each gene under chi squared, two arrays of shape (n_genes,).

    Parameters
    ----------
    full, reduced
        Log likelihoods of both models with the same dispersions, arrays of shape (n_genes,). Where the fits end a
        little early the statistic can be slightly negative; the p-value is then 1.
    df
        Number of coefficients that the reduced model lacks.
    """
    statistic = 2 * (full - reduced)
    return statistic, special.chdtrc(df, np.maximum(statistic, 0))
