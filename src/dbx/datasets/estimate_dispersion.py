"""The biological coefficient of variation: dispersions of genes, their common level and trend, and their spread."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize, sparse, special

from dbx.losses.counts import negative_binomial_kernel

GRID = np.linspace(-7.0, 3.5, 43, dtype=np.float32)
"""Logarithms of dispersions."""
GENES_AT_ONCE = 128
MOST_ERROR = 0.25
"""Standard error of the logarithm of a dispersion up to which it is nearly unbiased."""
LEAST_GENES = 200
MOST_CELLS = 2000


class Dispersions(NamedTuple):
    """Arrays of shape (n_genes,)."""

    log: np.ndarray
    """Logarithm of the dispersion by maximum likelihood; NaN where the counts do not tell."""
    error: np.ndarray
    """Its standard error."""
    zeros: np.ndarray
    """Expected fraction of zeros with it."""


def gene_dispersions(
    x: sparse.csr_matrix, depth: np.ndarray, means: np.ndarray, codes: np.ndarray, *, positive: bool = False
) -> Dispersions:
    """Dispersion of each gene, where the expected counts of a cell are its depth times the means of its set.

    ``depth`` and ``codes`` are arrays of shape (n_cells,), ``means`` of shape (n_sets, n_genes). With ``positive`` from
    the counts above 0 alone, by the distribution truncated there, which dropout hardly changes.
    """
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(x.shape[0], min(x.shape[0], MOST_CELLS), replace=False))
    columns, depth, codes = x[rows].tocsc(), depth[rows], codes[rows]
    found: list[np.ndarray] = []
    for start in range(0, x.shape[1], GENES_AT_ONCE):
        part = slice(start, start + GENES_AT_ONCE)
        counts = columns[:, part].toarray().astype(np.float32)
        mean = np.maximum(depth[:, None] * means[codes, part], 1e-9).astype(np.float32)
        more = GENES_AT_ONCE - counts.shape[1]
        padded = [np.pad(a, ((0, 0), (0, more)), constant_values=1) for a in (counts, mean)]
        height = np.asarray(_profile(*padded, positive), np.float64)[:, : counts.shape[1]]
        found.append(_best(height, mean))
    return Dispersions(*np.concatenate(found, axis=1))


def _best(height: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The rows of :class:`Dispersions`, from the likelihood on the grid: the top of the parabola through its best."""
    top = height.argmax(axis=0)
    best = np.clip(top, 1, len(GRID) - 2)
    low, at, high = (height[best + side, np.arange(len(best))] for side in (-1, 0, 1))
    step, bend = float(GRID[1] - GRID[0]), low - 2 * at + high
    inside = (top == best) & (bend < 0)
    log = GRID[best] + 0.5 * step * (low - high) / np.where(inside, bend, 1)
    size = np.exp(-log)
    zeros = np.exp(-size * np.log1p(mean / size)).mean(axis=0)
    error = step / np.sqrt(np.where(inside, -bend, 1))
    return np.array([np.where(inside, log, np.nan), np.where(inside, error, np.nan), zeros])


@partial(jax.jit, static_argnums=2)
def _profile(counts, mean, positive: bool):
    """Log-likelihood of each gene at each dispersion of the grid: array of shape (n_grid, n_genes)."""
    log_mean = jnp.log(mean)

    def at(log_dispersion):
        size = jnp.exp(-log_dispersion)
        found = negative_binomial_kernel(counts, log_mean, size)
        if positive:
            some = -jnp.expm1(-size * jnp.log1p(mean / size))
            found = jnp.where(counts > 0, found - jnp.log(some), 0)
        return found.sum(axis=0)

    return jax.lax.map(at, jnp.asarray(GRID))


def fit_variation(found: Dispersions, mean: np.ndarray, *, trend: bool = True) -> dict[str, float]:
    """Common dispersion, its trend with the mean, and the degrees of freedom of the genes around it.

    ``log dispersion = 2 log(sqrt(common) + trend / sqrt(mean)) + log(df / chi2(df))``: the common level and the trend
    by least squares, the degrees of freedom by the variance that is left beyond the errors.
    """
    known = np.isfinite(found.log) & (mean >= _least_mean(found.error, mean))
    if known.sum() < 10:
        return {"dispersion": 0.0, "dispersion_df": float("inf"), "bcv_trend": 0.0}
    y, error, m = found.log[known], found.error[known], mean[known]

    def curve(values):
        return 2 * np.log(np.exp(values[0]) + (np.exp(values[1]) if trend else 0) / np.sqrt(m))

    def fit(trended: bool, extra: float):
        weight = 1 / np.sqrt(error**2 + extra)
        start = [0.5 * np.median(y), np.log(0.05)]

        def residuals(values):
            return (y - (curve(values) if trended else 2 * values[0])) * weight

        return optimize.least_squares(residuals, start if trended else start[:1], loss="soft_l1", f_scale=2.0)

    extra = 0.1
    for _ in range(5):
        one, two = fit(False, extra), fit(trend, extra) if trend else fit(False, extra)
        trended = trend and 2 * (one.cost - two.cost) > 20
        line = curve(two.x) if trended else np.full(len(y), 2 * one.x[0])
        rest = y - line
        weight = 1 / (error**2 + extra) ** 2
        extra = max(float(((rest - rest.mean()) ** 2 - error**2) @ weight / weight.sum()), 1e-4)
    df = _df_of(extra)
    shift = 0.0 if np.isinf(df) else np.log(df / 2) - special.digamma(df / 2)  # mean of log(df / chi2)
    level = float(np.average(rest, weights=1 / (error**2 + extra))) - shift
    root, slope = np.exp(two.x) if trended else (np.exp(one.x[0]), 0.0)
    factor = np.exp(level)
    return {
        "dispersion": float(root**2 * factor),
        "dispersion_df": float(df),
        "bcv_trend": float(slope * np.sqrt(factor)),
    }


def _least_mean(error: np.ndarray, mean: np.ndarray) -> float:
    """Mean from which dispersions are known well: by the mean, as genes of a large dispersion have a smaller error."""
    order = np.argsort(-mean)[: np.count_nonzero(mean > 0)]
    well = np.where(np.isfinite(error[order]), error[order], np.inf) < MOST_ERROR
    width = max(len(order) // 40, 10)
    share = np.convolve(well, np.ones(width) / width, mode="valid")
    bad = np.flatnonzero(share < 0.5)
    n = max(int(bad[0]) if len(bad) else len(order), min(LEAST_GENES, len(order)))
    return float(mean[order[n - 1]])


def _df_of(variance: float) -> float:
    """Degrees of freedom at which the logarithm of chi squared has a variance; infinity from a thousand on."""
    if variance < 2e-3:
        return float("inf")
    return float(2 * np.exp(optimize.brentq(lambda x: special.polygamma(1, np.exp(x)) - variance, -4, 8)))
