"""ComBat's estimates from sums over cells: regression on batches and covariates, empirical Bayes of each batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.data.moments import moments
from dbx.ops.arrays import weighted_sums

CONVERGED = 1e-4
"""Relative change of the estimates at which they are final."""
MOST_ITERATIONS = 10_000
CONSTANT = 1e-13
"""A gene whose residual sum of squares is below this fraction of its sum of squares does not vary within batches."""


@dataclass(frozen=True)
class Estimates:
    """What the adjustment is made of, in float64."""

    grand_mean: np.ndarray
    """Array of shape (n_genes,): mean of the batches' coefficients, weighted by their cells."""
    effects: np.ndarray
    """Array of shape (n_covariates, n_genes): coefficients of the covariates."""
    pooled_sd: np.ndarray
    """Array of shape (n_genes,): standard deviation of the residuals."""
    gamma: np.ndarray
    """Array of shape (n_batches, n_genes): additive effect of each batch, in pooled standard deviations."""
    delta: np.ndarray
    """Array of shape (n_batches, n_genes): variance of each batch over the pooled one."""


def estimate(x: RowBlocks, codes: np.ndarray, n_batches: int, covariates: np.ndarray) -> Estimates:
    """Fit all genes; a gene that does not vary within batches is only moved to its grand mean.

    ``covariates`` is an array of shape (n_cells, n_covariates).

    Raises
    ------
    ValueError
        Fewer than two genes vary.
    """
    batches = np.eye(n_batches)[codes]
    groups = moments(x, codes, n_batches)
    count, n_covariates = groups.count[:, None], covariates.shape[1]
    solver = np.linalg.pinv(np.column_stack([batches, covariates])).T
    within = (batches[:, :, None] * covariates[:, None, :]).reshape(len(codes), n_batches * n_covariates)
    sums = weighted_sums(np.column_stack([solver, within]), x)
    coefficients = sums[: n_batches + n_covariates]
    cross = sums[n_batches + n_covariates :].reshape(n_batches, n_covariates, x.n_columns)
    effects = coefficients[n_batches:]
    grand_mean = (groups.count / groups.count.sum()) @ coefficients[:n_batches]
    products = np.concatenate([groups.total, cross.sum(axis=0)])
    squares = groups.squares.sum(axis=0)
    left = squares - (coefficients * products).sum(axis=0)
    varies = left > CONSTANT * squares
    if varies.sum() < 2:
        msg = "combat needs at least two genes that vary within batches, since it estimates batch effects from all."
        raise ValueError(msg)
    variance = np.where(varies, left / len(codes), 1)

    # moments of the residuals on the covariates alone, in each batch
    means = (groups.total - batches.T @ covariates @ effects) / count
    gram = np.einsum("bi,ij,ik->bjk", batches.T, covariates, covariates)
    of_squares = groups.squares - 2 * np.einsum("bkg,kg->bg", cross, effects)
    of_squares += np.einsum("bjk,jg,kg->bg", gram, effects, effects)
    gamma_hat = np.where(varies, (means - grand_mean) / np.sqrt(variance), 0)
    delta_hat = np.where(varies, (of_squares - count * means**2) / (count - 1) / variance, 0)
    found = [posterior(*batch) for batch in zip(gamma_hat, delta_hat, groups.count, strict=True)]
    gamma, delta = np.stack(found, axis=1)
    gamma, delta = np.where(varies, gamma, means - grand_mean), np.where(varies, delta, 1)
    return Estimates(grand_mean, effects, np.sqrt(variance), gamma, delta)


def posterior(gamma_hat: np.ndarray, delta_hat: np.ndarray, n_cells: float) -> tuple[np.ndarray, np.ndarray]:
    """Additive effects and variances of one batch, shrunk towards those of all genes; arrays of shape (n_genes,).

    The means of normal and inverse gamma posteriors, each given the other, in turn until both are stable. As in scanpy
    they are final after the first turn if a gene does not vary within batches, whose relative change is undefined.
    """
    mean, spread = gamma_hat.mean(), gamma_hat.var()
    m, s2 = delta_hat.mean(), delta_hat.var(ddof=1)
    a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    gamma, delta = gamma_hat, delta_hat
    for _ in range(MOST_ITERATIONS):
        new_gamma = (spread * n_cells * gamma_hat + delta * mean) / (spread * n_cells + delta)
        squares = (n_cells - 1) * delta_hat + n_cells * (gamma_hat - new_gamma) ** 2
        new_delta = (squares / 2 + b) / (n_cells / 2 + a - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            changes = np.abs(new_gamma - gamma) / gamma, np.abs(new_delta - delta) / delta
        gamma, delta = new_gamma, new_delta
        if not max(change.max() for change in changes) > CONVERGED:
            break
    return gamma, delta
