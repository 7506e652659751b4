"""Two-sample tests from sufficient statistics, for many groups and genes at once."""

from __future__ import annotations

import numpy as np
from scipy import special

from dbx.ops.differential.group_moments import Moments


def welch(group: Moments, rest: Moments, *, overestimate: bool) -> tuple[np.ndarray, np.ndarray]:
    """Welch's t statistic and two-sided p-value (Biometrika, 1947), arrays of shape (n_tested, n_genes).

    ``overestimate`` uses the group's size also for the rest, which is more conservative for small groups.
    """
    n_group = group.n_cells[:, None]
    n_rest = n_group if overestimate else rest.n_cells[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        # via the standard deviation, as in SciPy: genes tied up to rounding are then in scanpy's order
        of_group, of_rest = np.sqrt(group.variance) ** 2 / n_group, np.sqrt(rest.variance) ** 2 / n_rest
        freedom = (of_group + of_rest) ** 2 / (of_group**2 / (n_group - 1) + of_rest**2 / (n_rest - 1))
        score = (group.mean - rest.mean) / np.sqrt(of_group + of_rest)
    freedom = np.where(np.isnan(freedom), 1, freedom)
    same = np.isnan(score)  # equal means and zero variance
    pvalue = 2 * special.stdtr(freedom, -np.abs(np.where(same, 0, score)))
    return np.where(same, 0, score), np.where(same, 1, pvalue)


def wilcoxon(
    sums: np.ndarray, ties: np.ndarray, group: Moments, rest: Moments, *, tie_correct: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Standardised rank sum (Wilcoxon, Biometrics Bulletin, 1945; normal approximation) and its two-sided p-value."""
    n_group, n_rest = group.n_cells[:, None], rest.n_cells[:, None]
    n_both = n_group + n_rest
    kept = 1 - ties / (n_both**3 - n_both) if tie_correct else 1.0
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt(kept * n_group * n_rest * (n_both + 1) / 12)
        score = (sums - n_group * (n_both + 1) / 2) / spread
    score = np.where(np.isnan(score), 0, score)
    return score, 2 * special.ndtr(-np.abs(score))
