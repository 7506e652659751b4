"""Kinetics of genes by the likelihood of their counts: weights of times, then parameters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbx.ops.dynamics.count_likelihood import likeliest_theta
from dbx.ops.dynamics.count_states import CountModel, Counts, CurvePoints, at_points, points_of, weights_of
from dbx.ops.dynamics.kinetic_steps import HIGH, LOW, Penalty, curve_of

SHIFT = 1e-4
"""Change of a parameter by which derivatives of the points are found."""
DAMPING = 1e-2
FIRST_THETA = 10.0
OF_PENALTY = 1.0
"""Weight of the penalties for a count, relative to that for a cell in the Gaussian fit."""


class CountFit(NamedTuple):
    """Logarithms of the parameters, of shape (n_genes, 4), the model, and weights of its points in all cells."""

    parameters: np.ndarray
    model: CountModel
    points: CurvePoints
    weights: np.ndarray


def fit_counts(
    counts: Counts,
    near: Counts,
    parameters: np.ndarray,
    low: tuple[np.ndarray, np.ndarray],
    penalties: tuple[Penalty, ...],
    max_iter: int,
) -> CountFit:
    """The likeliest parameters on the way from these, for counts of cells and means of their neighbourhoods."""
    known = np.minimum(np.minimum(counts.u.mean(axis=0), counts.s.mean(axis=0)), 1)
    penalties = tuple(penalty._replace(weight=OF_PENALTY * known * penalty.weight) for penalty in penalties)
    theta = np.full((2, len(parameters)), FIRST_THETA)
    parameters = np.clip(parameters, LOW, HIGH)
    best, most = (parameters, theta), np.full(len(parameters), -np.inf)
    for done in range(max_iter + 1):
        model = CountModel(curve_of(parameters), *low, *theta)
        points = points_of(model)
        weights, value = weighed(model, points, counts, near)
        theta = thetas(points, weights, counts, theta if done else None)
        value = value - sum(penalty.at(parameters) for penalty in penalties) / 2
        if done:  # the first has no dispersion yet
            better = value > most
            best = np.where(better[:, None], parameters, best[0]), np.where(better, theta, best[1])
            most = np.where(better, value, most)
        if done < max_iter:
            model = model._replace(theta_u=theta[0], theta_s=theta[1])
            parameters = np.clip(parameters + step(parameters, model, points, weights, counts, penalties), LOW, HIGH)
    model = CountModel(curve_of(best[0]), *low, *best[1])
    points = points_of(model)
    return CountFit(best[0], model, points, weighed(model, points, counts, near)[0])


def weighed(model: CountModel, points: CurvePoints, counts: Counts, near: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the points in each cell, and the log-likelihood of each gene by them, up to a constant."""
    own = at_points(model, points, counts)
    weights = weights_of(own, at_points(model, points, near))
    return weights, np.einsum("ikg,ikg->g", weights, own)


def thetas(points: CurvePoints, weights: np.ndarray, counts: Counts, theta: np.ndarray | None) -> np.ndarray:
    """Inverse dispersions of both counts about their mean over times, of shape (2, n_genes)."""
    found = []
    for i, (x, size, level) in enumerate(((counts.u, counts.size_u, points.u), (counts.s, counts.size_s, points.s))):
        mean = size * np.einsum("ikg,kg->ig", weights, level)
        found.append(likeliest_theta(x, mean, None if theta is None else theta[i]))
    return np.stack(found)


def step(
    parameters: np.ndarray,
    model: CountModel,
    points: CurvePoints,
    weights: np.ndarray,
    counts: Counts,
    penalties: tuple[Penalty, ...],
) -> np.ndarray:
    """A step of Fisher's scoring with these weights of the points, an array of shape (n_genes, 4)."""
    n = len(parameters)
    hessian, slope = np.zeros((n, 4, 4)), np.zeros((n, 4))
    by_u, by_s = derivatives(parameters, model)
    for x, size, level, theta, by in (
        (counts.u, counts.size_u, points.u, model.theta_u, by_u),
        (counts.s, counts.size_s, points.s, model.theta_s, by_s),
    ):
        per = weights / (level * (1 + size[:, None, :] * level / theta))
        information = np.einsum("ikg,ig->kg", per, size)
        first = np.einsum("ikg,ig->kg", per, x) - information * level
        hessian += np.einsum("kg,akg,bkg->gab", information, by, by)
        slope += np.einsum("kg,akg->ga", first, by)
    for penalty in penalties:
        penalty.add(hessian, slope, parameters)
    diagonal = np.einsum("gaa->ga", hessian)
    diagonal += DAMPING * diagonal + 1e-9 * diagonal.sum(axis=1, keepdims=True) + 1e-9
    return np.clip(np.linalg.solve(hessian, slope[:, :, None])[:, :, 0], -0.5, 0.5)


def derivatives(parameters: np.ndarray, model: CountModel) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of the points' mean counts in the parameters, two arrays of shape (4, points, n_genes)."""
    found = []
    for i in range(4):
        ends = []
        for sign in (1, -1):
            moved = parameters + sign * SHIFT * np.eye(4)[i]
            ends.append(points_of(model._replace(curve=curve_of(moved))))
        found.append([(high - low) / (2 * SHIFT) for high, low in zip(ends[0][1:], ends[1][1:], strict=True)])
    by_u, by_s = (np.stack(z) for z in zip(*found, strict=True))
    return by_u, by_s
