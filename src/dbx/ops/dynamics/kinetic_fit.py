"""Kinetics of genes by expectation maximisation: times and states of cells, then parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from dbx.data.threads import in_threads, row_slices
from dbx.ops.dynamics.kinetic_cells import GeneCells, Levels, levels, upper_cells
from dbx.ops.dynamics.kinetic_likelihood import log_likelihood
from dbx.ops.dynamics.kinetic_starts import STARTED, starts
from dbx.ops.dynamics.kinetic_states import NearestStates, nearest_states
from dbx.ops.dynamics.kinetic_steps import Penalty, curve_of, improved

GENES_AT_ONCE = 16
STEPS_AT_ONCE = 4
"""Steps of the parameters between two assignments of times."""
SAME = 1e-3
"""Difference of logarithms of parameters below which two fits are one."""
OF_RATIO, OF_SCALING, OF_SWITCH = 0.3, 0.3, 0.02
"""Weights of the penalties, for each cell and in squared logarithms."""
USUAL_SWITCH = 3.0
OF_UPPER = 1.0
"""Additional weight of the cells with high counts, which the likelihood is of."""
RATIO, SCALING, SWITCH = (1.0, -1.0, 0.0, 0.0), (1.0, -1.0, -1.0, 0.0), (0.0, 0.0, 0.0, 1.0)

Smoothing = Callable[[np.ndarray], np.ndarray]


class Fit(NamedTuple):
    """Kinetics of some genes, and the states of all cells."""

    parameters: np.ndarray
    """Logarithms of the parameters of each gene, of shape (n_genes, 4), in standard deviations of its counts."""
    states: NearestStates
    likelihood: np.ndarray


def common_scaling(cells: GeneCells, smooth: Smoothing, max_iter: int) -> float:
    """Median over genes of the scaling of unspliced counts where it is free."""
    n_genes = cells.x.shape[1]
    found = np.empty(n_genes)

    def fit(genes: slice) -> None:
        some = subset(cells, genes)
        found[genes] = log_scaling(fit_kinetics(some, smooth, max_iter, None).parameters, some)

    by_genes(fit, n_genes)
    return float(np.exp(np.median(found)))


def log_scaling(parameters: np.ndarray, cells: GeneCells) -> np.ndarray:
    """Logarithm of what one unspliced count is in spliced ones, an array of shape (n_genes,)."""
    return parameters @ np.asarray(SCALING) + np.log(cells.std_u / cells.std_s)


def subset(cells: GeneCells, genes: np.ndarray | slice) -> GeneCells:
    """Some of the genes."""
    return GeneCells(*(z[..., genes] for z in cells))


def by_genes(work: Callable[[slice], None], n_genes: int, at_once: int = GENES_AT_ONCE) -> None:
    """Run ``work`` on a few genes at a time, whose arrays stay in the cache of a processor."""

    def each(part: slice) -> None:
        for genes in row_slices(part, at_once):
            work(genes)

    in_threads(each, n_genes, GENES_AT_ONCE)


def fit_kinetics(cells: GeneCells, smooth: Smoothing, max_iter: int, scaling: float | None) -> Fit:
    """The likeliest of the fits from several starts."""
    penalties = penalties_of(cells, scaling)
    groups = levels(cells, cells.used + OF_UPPER * upper_cells(cells))
    at_once = settled(
        np.concatenate(starts(cells)),
        groups.repeated(STARTED),
        smooth,
        tuple(penalty.repeated(STARTED) for penalty in penalties),
        max_iter,
    )
    first, *others = np.split(at_once, STARTED)
    best = fit_of(first, cells, smooth)
    for parameters in others:
        apart = np.flatnonzero(np.abs(parameters - best.parameters).max(axis=1) > SAME)
        if len(apart):
            other = fit_of(parameters[apart], subset(cells, apart), smooth)
            best = replaced(best, apart, other)
    return best


def fit_of(parameters: np.ndarray, cells: GeneCells, smooth: Smoothing) -> Fit:
    """States of all cells on the curves of these parameters."""
    curve = curve_of(parameters)
    found = nearest_states(curve, cells.x, cells.y)
    found = found.chosen(smooth(found.preferred))
    return Fit(parameters, found, log_likelihood(curve, found, cells))


def replaced(best: Fit, genes: np.ndarray, other: Fit) -> Fit:
    """The likelier fit of each gene; ``other`` is of some ``genes``."""
    likelier = other.likelihood > best.likelihood[genes]
    genes = genes[likelier]
    for old, new in zip(jax.tree.leaves(best.states), jax.tree.leaves(other.states), strict=True):
        old[:, genes] = new[:, likelier]
    best.parameters[genes], best.likelihood[genes] = other.parameters[likelier], other.likelihood[likelier]
    return best


def penalties_of(cells: GeneCells, scaling: float | None) -> tuple[Penalty, ...]:
    """Steady states near the ratio of the highest counts, a common scaling, and a switch that is not extreme."""
    n, sds = cells.used.sum(axis=0).astype(float), np.log(cells.std_u / cells.std_s)
    found = [
        Penalty(RATIO, np.log(cells.slope) - sds, OF_RATIO * n),
        Penalty(SWITCH, np.full(len(n), np.log(USUAL_SWITCH)), OF_SWITCH * n),
    ]
    return tuple(found if scaling is None else [*found, Penalty(SCALING, np.log(scaling) - sds, OF_SCALING * n)])


def settled(
    parameters: np.ndarray, groups: Levels, smooth: Smoothing, penalties: tuple[Penalty, ...], max_iter: int
) -> np.ndarray:
    """The parameters with the least penalised sums of squares on the way from these."""
    best, least = parameters, np.full(len(parameters), np.inf)
    for done in range(0, max_iter + STEPS_AT_ONCE, STEPS_AT_ONCE):
        found = nearest_states(curve_of(parameters), groups.x, groups.y)
        weights = groups.weights(smooth(groups.of_cells(found.preferred)) > 0)
        loss = (weights[0] * found.induced.square + weights[1] * found.repressed.square).sum(axis=0)
        loss += sum(penalty.at(parameters) for penalty in penalties)
        better = loss < least
        best, least = np.where(better[:, None], parameters, best), np.where(better, loss, least)
        if done < max_iter:
            few = groups.weighted(weights, found)
            parameters = improved(parameters, few, penalties, min(STEPS_AT_ONCE, max_iter - done))
    return best
