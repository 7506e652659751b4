"""Factors of genes in groups and batches: how many change, and by how much."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from scipy import optimize, special

from dbx.datasets.estimate_means import folded, folded_half


def two_way(log: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted least squares of logarithms on groups and batches for each gene.

    ``log`` and ``weight`` are arrays of shape (n_groups, n_batches, n_genes). Returns the values of groups, of shape
    (n_groups, n_genes), those of batches around their mean, (n_batches, n_genes), and the precision of the groups.
    """
    weight = np.maximum(weight, 1e-9)
    batch = np.zeros(log.shape[1:])
    for _ in range(30):
        group = ((log - batch) * weight).sum(axis=1) / weight.sum(axis=1)
        batch = ((log - group[:, None]) * weight).sum(axis=0) / weight.sum(axis=0)
        batch -= batch.mean(axis=0)
    return group, batch, weight.sum(axis=1)


def fit_changes(log: np.ndarray, noise: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """Fraction of changed genes, and the distribution of the logarithm of their factors, by maximum likelihood.

    ``log`` are logarithms of means of groups and ``noise`` their standard errors, of shape (n_groups, n_genes). Which
    group of a gene is unchanged is not known: each is taken for it in turn. Also returns the logarithm of the mean of
    the unchanged groups, of shape (n_genes,).
    """
    # what changes shifts the others' share of the total: most genes of two groups do not change
    log = log - np.array([_mode(row - np.median(log, axis=0)) for row in log])[:, None]
    begin = _start(log, noise)
    if begin is None:
        return {"de_probability": 0.0}, np.median(log, axis=0)

    def loss(values):
        if len(log) == 2:
            return -np.log(_of_two(log[1] - log[0], np.hypot(*noise), *values[:3]) + 1e-300).sum()
        return -special.logsumexp(_of_unchanged(log, noise, values), axis=0).sum()

    options: dict[str, Any] = {"maxiter": 600, "xatol": 1e-3, "fatol": 1e-2}
    options["initial_simplex"] = begin + np.vstack([np.zeros(4), 0.3 * np.eye(4)])
    values = optimize.minimize(loss, begin, method="Nelder-Mead", options=options).x
    found = {
        "de_probability": float(special.expit(values[0])),
        "de_location": float(abs(values[1])),
        "de_scale": float(np.exp(values[2])),
        "de_down": float(special.expit(values[3])) if len(log) > 2 else 0.5,
    }
    own = _of_unchanged(log, noise, values)
    weights = np.exp(own - own.max(axis=0))
    return found, (weights * log).sum(axis=0) / weights.sum(axis=0)


def _start(log: np.ndarray, noise: np.ndarray) -> np.ndarray | None:
    """Logit of the fraction of changes, location, logarithm of the scale, and logit of the fraction of decreases.

    By what is far from the median of groups; None for fewer than five such values.
    """
    signed = log - np.median(log, axis=0)
    far = np.abs(signed) > 3 * np.maximum(noise, 1e-3)
    if far.sum() < 5:
        return None
    sizes, falls = np.abs(signed[far]), np.clip(np.mean(signed[far] < 0), 0.05, 0.95)
    share = np.clip(far.mean(), 0.01, 0.9)
    return np.array([special.logit(share), sizes.mean(), np.log(max(sizes.std(), 0.05)), special.logit(falls)])


def _of_unchanged(log: np.ndarray, noise: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Log-likelihood of each gene if each group in turn is an unchanged one, of shape (n_groups, n_genes)."""
    (p, down), location, scale = special.expit(values[[0, 3]]), values[1], np.exp(values[2])
    found = np.full(log.shape, np.log1p(-p))
    for own, other in itertools.permutations(range(len(log)), 2):
        d, s = log[other] - log[own], np.hypot(noise[other], noise[own])
        up, fall = (folded(x, location, scale, s, np.hypot(scale, s)) for x in (d, -d))
        found[own] += np.log((1 - p) * _normal(d, s) + p * ((1 - down) * up + down * fall) + 1e-300)
    return found


def _of_two(d: np.ndarray, s: np.ndarray, p: float, location: float, scale: float) -> np.ndarray:
    """Density of the difference of two groups: neither, one, or both of them changed, up or down alike."""
    share, scale = special.expit(p), np.exp(scale)
    width = np.hypot(scale, s)
    sides = (d, -d)
    one = sum(folded_half(x, m, scale, s, width) for x in sides for m in (location, -location)) / 2
    both_width = np.sqrt(2 * scale**2 + s**2)
    same_side, other_side = _normal(d, both_width), sum(_normal(x - 2 * abs(location), both_width) for x in sides) / 2
    both = (same_side + other_side) / 2
    return (1 - share) ** 2 * _normal(d, s) + 2 * share * (1 - share) * one + share**2 * both


def _normal(x, scale):
    return np.exp(-0.5 * (x / scale) ** 2) / (scale * np.sqrt(2 * np.pi))


def _mode(values: np.ndarray) -> float:
    """Where most values are: the middle of the narrowest half, of its half, and so on."""
    values = np.sort(values)
    while len(values) > 20:
        half = len(values) // 2
        start = int(np.argmin(values[half:] - values[: len(values) - half]))
        values = values[start : start + half]
    return float(np.mean(values))
