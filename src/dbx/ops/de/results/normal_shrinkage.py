"""Widths of normal priors that shrink coefficients (Love, Huber and Anders, Genome Biology, 2014)."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy import special

from dbx.ops.de.design.design import Design
from dbx.ops.de.design.factor_coding import factor_coding, factors
from dbx.ops.de.design.formula import columns_of

UPPER = 0.05
"""The prior's two-sided tail beyond the quantile of coefficients that it is matched to."""
MAX_SIZE = 10.0
"""Coefficients beyond this, log2, have diverged."""
FLAT = 1e6
"""Variance of a coefficient that is not shrunk."""


def prior_variances(
    beta: np.ndarray, base_mean: np.ndarray, trend_dispersion: np.ndarray, intercept: int | None = 0
) -> np.ndarray:
    """Variance of each coefficient's normal prior on the log2 scale, an array of shape (n_coefficients,).

    A zero-centred normal whose upper 2.5% quantile is the 95% quantile of the coefficients' sizes over genes, weighted
    by the information that a gene of such a mean has. Coefficients are then fitted with a ridge of
    1 / (variance ln(2)^2).

    Parameters
    ----------
    beta
        Maximum likelihood coefficients in natural logarithms, an array of shape (n_genes, n_coefficients).
    base_mean, trend_dispersion
        Means of normalised counts and the trend's dispersions, arrays of shape (n_genes,). A gene whose every count was
        replaced has a mean of 0 and does not count.
    intercept
        The coefficient that is not shrunk.
    """
    sizes = np.abs(beta) / np.log(2)
    weights = base_mean / (1 + base_mean * trend_dispersion)
    variances = np.full(sizes.shape[1], FLAT)
    for i, size in enumerate(sizes.T):
        usable = (size < MAX_SIZE) & (weights > 0)
        if i != intercept and usable.any():
            quantile = _weighted_quantile(size[usable], weights[usable], 1 - UPPER)
            variances[i] = (quantile / special.ndtri(1 - UPPER / 2)) ** 2
    return variances


def level_prior(design: Design, beta: np.ndarray, base_mean: np.ndarray, trend_dispersion: np.ndarray) -> np.ndarray:
    """Covariance of the coefficients' prior on the log2 scale that treats all levels of a factor alike.

    Array of shape (n_coefficients, n_coefficients). Each level of a factor has an effect of its own around the
    intercept, with a normal prior of one variance: the mean of those that :func:`prior_variances` finds for the
    differences of all pairs of levels. The prior of the design's coefficients, which are differences of such effects,
    follows; a comparison is shrunk alike whichever level is the reference. DESeq2 calls these effects the expanded
    model matrix.

    Parameters
    ----------
    design
        The design, without interactions of factors.
    beta, base_mean, trend_dispersion
        As for :func:`prior_variances`.
    """
    expanded: list[np.ndarray] = []
    variances: list[np.ndarray | list[float]] = []
    for term, indices in design.spec.term_indices.items():
        columns = list(indices)
        factor = _main_factor(design, term)
        if factor is not None:
            column = design.frame[factor].cat
            coded = np.stack(list(factor_coding(design, factor).values()))
            pairs = np.stack([a - b for a, b in combinations(coded, 2)])
            found = prior_variances(beta @ pairs.T, base_mean, trend_dispersion, intercept=None)
            expanded.append(np.eye(len(column.categories))[column.codes])
            variances.append([found.mean()] * len(column.categories))
        elif term.factors and term.degree:
            expanded.append(design.matrix[:, columns])
            variances.append(prior_variances(beta[:, columns], base_mean, trend_dispersion, intercept=None))
    if _main_factors(design) or "1" in map(str, design.spec.term_indices):
        expanded.append(np.ones((len(design.matrix), 1)))
        variances.append([FLAT])
    to_coefficients = np.linalg.lstsq(design.matrix, np.hstack(expanded))[0]
    return to_coefficients * np.concatenate(variances) @ to_coefficients.T


def check_shrinkable(design: Design) -> None:
    """Refuse a design in which levels have no effect of their own.

    Raises
    ------
    ValueError
        A factor interacts with another column.
    """
    _main_factors(design)


def _main_factors(design: Design) -> list[str]:
    found = [_main_factor(design, term) for term in design.spec.term_indices]
    return [factor for factor in found if factor is not None]


def _main_factor(design: Design, term) -> str | None:
    """The factor that a term is of, None where it is of covariates."""
    found = {name for part in term.factors for name, _ in columns_of(part)} & set(factors(design))
    if found and len(term.factors) > 1:
        msg = (
            f"shrink='normal' cannot compare levels in a design with the interaction {term}: use shrink='apeglm', or "
            "name one coefficient as the contrast."
        )
        raise ValueError(msg)
    return next(iter(found), None)


def _weighted_quantile(values: np.ndarray, weights: np.ndarray, probability: float) -> float:
    """As if each value stood there as often as its weight says, with weights that add up to the number of values."""
    order = np.argsort(values)
    values, reached = values[order], np.cumsum(weights[order])
    reached *= len(values) / reached[-1]
    rank = 1 + (len(values) - 1) * probability
    low = np.floor(rank)
    at = np.searchsorted(reached, [low, low + 1])
    below, above = values[np.minimum(at, len(values) - 1)]
    return float(below + (rank - low) * (above - below))
