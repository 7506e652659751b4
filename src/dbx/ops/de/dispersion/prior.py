"""How far true dispersions scatter around their trend, the width of the prior that gene-wise estimates shrink under."""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
from scipy.special import polygamma

from dbx.ops.de.dispersion.trend import USABLE

NARROWEST = 0.25
"""Smallest variance of the prior."""
FEW_DEGREES = 3
"""Up to so many residual degrees of freedom the sampling variance of a log dispersion is no longer trigamma(df / 2)."""
MAD_TO_SD = 1.4826
EDGES = np.linspace(-10, 10, 41)
WIDEST, SPAN, N_GRID = 8.0, 0.2, 1000


def residual_variance(gene_dispersion: np.ndarray, trend_dispersion: np.ndarray) -> float:
    """Variance of log gene-wise dispersions around the trend, from their median absolute deviation (varLogDispEsts)."""
    residuals = _residuals(gene_dispersion, trend_dispersion)
    return float((MAD_TO_SD * np.median(np.abs(residuals - np.median(residuals)))) ** 2)


def prior_variance(
    gene_dispersion: np.ndarray, trend_dispersion: np.ndarray, n_samples: int, n_coefficients: int
) -> float:
    """Variance of the normal prior of log dispersions around the trend (dispPriorVar).

    The variance of the residuals less what sampling alone gives, trigamma(df / 2). With 1 to 3 residual degrees of
    freedom that is too rough, and the whole distribution of residuals is compared with simulated ones instead.

    Parameters
    ----------
    gene_dispersion, trend_dispersion
        Arrays of shape (n_genes,); a gene without counts has NaN.
    """
    df = n_samples - n_coefficients
    if 1 <= df <= FEW_DEGREES:
        return max(matched_variance(_residuals(gene_dispersion, trend_dispersion), df), NARROWEST)
    variance = residual_variance(gene_dispersion, trend_dispersion)
    return max(variance - float(polygamma(1, df / 2)), NARROWEST) if df else variance


def matched_variance(residuals: np.ndarray, df: int) -> float:
    """The prior variance under which simulated residuals are distributed most like those seen.

    Simulated are log(chi-squared / df) with a normal deviate added, whose variance runs over a grid; the
    Kullback-Leibler divergence from the histogram of what was seen is smoothed by loess before its minimum is taken.
    """
    from skmisc.loess import loess

    counts = simulated_counts(df)
    density = counts / (counts.sum(axis=1, keepdims=True) * np.diff(EDGES))
    inside = residuals[(residuals > EDGES[0]) & (residuals < EDGES[-1])]
    # bins hold their right edge, as R's hist does
    seen = np.bincount(np.searchsorted(EDGES, inside, side="left") - 1, minlength=len(EDGES) - 1)
    seen = seen / (seen.sum() * np.diff(EDGES))
    divergence = np.array([_divergence(seen, row) for row in density])
    smooth = loess(np.linspace(0, WIDEST, len(divergence)), divergence, span=SPAN, degree=2)
    smooth.fit()
    grid = np.linspace(0, WIDEST, N_GRID)
    return float(grid[np.argmin(smooth.predict(grid).values)])


@cache
def simulated_counts(df: int) -> np.ndarray:
    """Histograms of simulated residuals for 200 prior variances from 0 to 8, an array of shape (200, 40).

    They are DESeq2's own draws (10,000 for each variance, R's random numbers at a fixed seed), so that the minimum is
    the one that DESeq2 finds.
    """
    with (resources.files("dbx.ops.de") / "low_df.npz").open("rb") as file, np.load(file) as tables:
        return tables[f"df{df}"].astype(np.float64)


def _residuals(gene_dispersion, trend_dispersion) -> np.ndarray:
    usable = gene_dispersion >= USABLE
    return np.log(gene_dispersion[usable]) - np.log(trend_dispersion[usable])


def _divergence(seen: np.ndarray, simulated: np.ndarray) -> float:
    """Kullback-Leibler divergence of two densities, kept finite by their smallest positive value."""
    both = np.concatenate([seen, simulated])
    least = both[both > 0].min()
    return float((seen * (np.log(seen + least) - np.log(simulated + least))).sum())
