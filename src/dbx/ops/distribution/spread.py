"""Mood's test of spread, with ties."""

from __future__ import annotations

import numpy as np
from scipy import special

from dbx.ops.distribution.ordered import Counted, Ordered


def spread_pvalues(genes: Ordered, counts: Counted) -> np.ndarray:
    """P-value that ranks of a condition are nearer to, or farther from, the middle rank (Mood, Ann. Math. Stat., 1954).

    Normal, with the exact mean and variance of the sum of squared distances of midranks; NaN where it does not vary.
    """
    n, n_one = genes.n, counts.total
    some = np.maximum(n, 2)
    score = np.where(genes.last, (genes.upto - genes.size / 2 - n[:, None] / 2) ** 2, 0.0)
    mean, square = ((score**power * genes.size).sum(axis=1) / some for power in (1, 2))
    tied = counts.upto - counts.below
    total = tied @ score[0] if len(score) == 1 else (tied * score).sum(axis=1)
    variance = np.maximum(square - mean**2, 0) * n_one * (n - n_one) / (some - 1)
    varies = variance > 1e-9 * np.maximum(square, 1)
    z = (total - n_one * mean) / np.sqrt(np.where(varies, variance, 1.0))
    return np.where(varies, 2 * special.ndtr(-np.abs(z)), np.nan)
