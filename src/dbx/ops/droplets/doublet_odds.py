"""A classifier of observed cells against simulated doublets, on what speaks for a doublet."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dbx.ops.droplets.doublet_evidence import expanded
from dbx.ops.droplets.expected_rate import prior_shift
from dbx.ops.droplets.ridge_logistic import ridge_logistic
from dbx.ops.values import Array

PENALTY = 10.0
"""Ridge penalty of the coefficients, in cells."""
POOLING = 100.0
"""Cells that hold the coefficients and the prior of a sample to those of all samples."""
REFITS = 3


class Cells(NamedTuple):
    """Features of observed cells or doublets, and their samples."""

    features: np.ndarray
    """Array of shape (n_cells, n_features)."""
    sample: np.ndarray
    """Array of shape (n_cells,)."""


class Odds(NamedTuple):
    """Scale of the features, and coefficients for each sample and, in the last row, for all."""

    centre: Array
    spread: Array
    coefficients: Array
    """Array of shape (n_samples + 1, n_terms)."""


def log_odds(odds: Odds, features: Array, sample: Array) -> Array:
    """Log-odds of a doublet at equal numbers of both; ``sample`` is -1 for a cell of no known sample."""
    terms = expanded((features - odds.centre) / odds.spread)
    return (terms * odds.coefficients[sample]).sum(axis=-1)


def log_odds_of(odds: Odds, cells: Cells) -> np.ndarray:
    """The same of host arrays, in float64."""
    with jax.enable_x64(True):
        return np.asarray(log_odds(Odds(*map(jnp.asarray, odds)), jnp.asarray(cells.features), cells.sample))


def fitted_odds(observed: Cells, simulated: Cells, n_samples: int, rate: float) -> Odds:
    """Coefficients of all cells, then of each sample, held to those of all.

    Some observed cells are doublets. They count as singlets by their probability of being one, which is found by
    fitting again, with the mean probability of a doublet at the expected rate.
    """
    features = np.concatenate([observed.features, simulated.features])
    centre, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    with jax.enable_x64(True):
        terms = np.asarray(expanded(jnp.asarray((features - centre) / spread)))
    sample = np.concatenate([observed.sample, simulated.sample])
    is_simulated = np.repeat([0.0, 1.0], [len(observed.sample), len(simulated.sample)])
    penalty = np.append(0.0, np.full(terms.shape[1] - 1, PENALTY))
    weight = balanced(np.ones(len(observed.sample)), observed.sample, simulated.sample, n_samples)
    beta = ridge_logistic(terms, is_simulated, weight, penalty)
    for _ in range(REFITS):
        logit = terms[: len(observed.sample)] @ beta
        singlet = 1 / (1 + np.exp(logit + prior_shift(logit, rate)))
        weight = balanced(singlet, observed.sample, simulated.sample, n_samples)
        beta = ridge_logistic(terms, is_simulated, weight, penalty)
    rows = [beta]
    if n_samples > 1:
        masks = (sample == one for one in range(n_samples))
        rows = [ridge_logistic(terms[m], is_simulated[m], weight[m], POOLING, beta) for m in masks] + rows
    return Odds(centre, spread, np.stack(rows if n_samples > 1 else rows * 2))


def balanced(singlet: np.ndarray, observed: np.ndarray, simulated: np.ndarray, n_samples: int) -> np.ndarray:
    """Weights of cells and doublets: in each sample both sum to the number of its cells."""
    n_cells = np.bincount(observed, minlength=n_samples)
    cells = singlet * (n_cells / np.maximum(np.bincount(observed, singlet, n_samples), 1e-9))[observed]
    doublets = (n_cells / np.maximum(np.bincount(simulated, minlength=n_samples), 1))[simulated]
    return np.concatenate([cells, doublets])


def sample_shifts(logit: np.ndarray, sample: np.ndarray, n_samples: int, rate: float) -> np.ndarray:
    """Shift to the expected rate of each sample, held to that of all cells, which comes last."""
    pooled = POOLING / len(logit)
    shifts = [prior_shift(logit, rate, (sample == one) + pooled) for one in range(n_samples)]
    return np.array([*shifts, prior_shift(logit, rate)])
