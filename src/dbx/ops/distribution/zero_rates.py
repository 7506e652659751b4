"""Zeros of two conditions: a logistic regression on the condition, with the detection rate of cells as a covariate."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

BINS = 128
"""Of cells of similar detection, on which the regression starts."""
STEPS, CLOSE = 25, 1e-4
"""Newton's steps, and the last one, after which the error is its square."""


class ZeroModel(NamedTuple):
    """The regression without the condition: all that the score test needs, for any labels."""

    residual: np.ndarray
    """Zeros minus their fitted probabilities, an array of shape (n_cells, n_genes)."""
    weight: np.ndarray
    """Fitted p (1 - p)."""
    covariate: np.ndarray
    """Standardised detection rates, an array of shape (n_cells,)."""

    def gene(self, at: int) -> ZeroModel:
        """The model of one gene."""
        return ZeroModel(self.residual[:, at : at + 1], self.weight[:, at : at + 1], self.covariate)


def zero_model(zero: np.ndarray, rate: np.ndarray) -> ZeroModel:
    """Fit logit P(zero) = a + b rate for each gene by Newton's method.

    Parameters
    ----------
    zero
        Whether each value is zero, an array of shape (n_cells, n_genes).
    rate
        Fraction of the genes that each cell expresses.
    """
    spread = rate.std()
    covariate = (rate - rate.mean()) / spread if spread > 0 else np.zeros(len(rate))
    start = np.stack([special.logit((zero.sum(axis=0) + 0.5) / (len(zero) + 1)), np.zeros(zero.shape[1])])
    if len(zero) > 2 * BINS:
        edges = np.linspace(0, len(zero), BINS + 1).astype(int)[:-1]
        order, size = np.argsort(covariate), np.diff(np.append(edges, len(zero)))
        together = np.add.reduceat(zero[order], edges, axis=0, dtype=float)
        start = _newton(together, size, np.add.reduceat(covariate[order], edges) / size, start)
    level, slope = _newton(zero.astype(float), np.ones(len(zero)), covariate, start)
    fitted = special.expit(level + np.multiply.outer(covariate, slope))
    return ZeroModel(zero - fitted, fitted * (1 - fitted), covariate)


def _newton(zeros: np.ndarray, size: np.ndarray, covariate: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Level and slope of each gene, an array of shape (2, n_genes), from zeros among ``size`` cells of a covariate."""
    found = start.copy()
    moving = np.flatnonzero((zeros.sum(axis=0) > 0) & (zeros.sum(axis=0) < size.sum()))
    zeros = zeros[:, moving]
    for _ in range(STEPS):
        level, slope = found[:, moving]
        fitted = special.expit(level + np.multiply.outer(covariate, slope))
        residual = zeros - fitted * size[:, None]
        weight = fitted * (1 - fitted) * size[:, None]
        w, wx, wxx = weight.sum(axis=0), covariate @ weight, covariate**2 @ weight
        u, ux = residual.sum(axis=0), covariate @ residual
        determinant = w * wxx - wx**2
        usable = determinant > 1e-10 * w**2
        step = np.clip(np.where(usable, (w * ux - wx * u) / np.where(usable, determinant, 1), 0.0), -2, 2)
        rise = np.clip((u - wx * step) / np.maximum(w, 1e-12), -2, 2)
        found[:, moving] += [rise, step]
        going = np.maximum(np.abs(step), np.abs(rise)) > CLOSE
        moving, zeros = moving[going], zeros[:, going]
        if not len(moving):
            break
    return found


def zero_statistics(model: ZeroModel, chosen: np.ndarray) -> np.ndarray:
    """Rao's score statistic of the condition, chi-squared with one degree of freedom; 0 where nothing varies.

    ``chosen`` are the cells of one condition, an array of shape (..., n_cells), bool; returns shape (..., n_genes).
    """
    label = chosen.astype(float)
    x = model.covariate[:, None] * model.weight
    score, g, gx = label @ model.residual, label @ model.weight, label @ x
    w, wx, wxx = model.weight.sum(axis=0), x.sum(axis=0), model.covariate @ x
    determinant = w * wxx - wx**2
    usable = determinant > 1e-10 * w**2
    explained = np.where(
        usable,
        (g**2 * wxx - 2 * g * gx * wx + gx**2 * w) / np.where(usable, determinant, 1),
        g**2 / np.maximum(w, 1e-300),
    )
    variance = g - explained
    return np.where(variance > 1e-9 * np.maximum(g, 1e-300), score**2 / np.where(variance > 0, variance, 1), 0.0)


def zero_pvalues(found: np.ndarray) -> np.ndarray:
    """P-values of score statistics."""
    return special.chdtrc(1, found)
