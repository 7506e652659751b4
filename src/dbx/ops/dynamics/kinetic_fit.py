"""Kinetics of genes by expectation maximisation: times and states of cells, then parameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dbx.data.threads import in_threads
from dbx.ops.dynamics.kinetic_cells import GeneCells, condensed, upper_cells
from dbx.ops.dynamics.kinetic_likelihood import log_likelihood
from dbx.ops.dynamics.kinetic_states import nearest_states
from dbx.ops.dynamics.kinetic_steps import Cells, Penalty, curve_of, improved
from dbx.ops.dynamics.projection import nearest
from dbx.ops.dynamics.splicing import Curve, started

GENES_AT_ONCE = 16
STEPS_AT_ONCE = 4
"""Steps of the parameters between two assignments of times."""
SHAPES = tuple((r, switch) for r in (0.4, 1.0, 2.5) for switch in (1.0, 2.5, 6.0))
"""Ratio of rates relative to that of the steady state, and time of the switch, of the curves to start from."""
STARTED = 2
"""Starts that are followed: with the nearest curves."""
FOR_START = 400
"""Cells that starts are compared on."""
OF_RATIO, OF_SCALING, OF_SWITCH = 0.3, 0.3, 0.02
"""Weights of the penalties, for each cell and in squared logarithms."""
USUAL_SWITCH = 3.0
OF_UPPER = 1.0
"""Additional weight of the cells with high counts, which the likelihood is of."""
RATIO, SCALING, SWITCH = (1.0, -1.0, 0.0, 0.0), (1.0, -1.0, -1.0, 0.0), (0.0, 0.0, 0.0, 1.0)

Smoothing = Callable[[np.ndarray], np.ndarray]


def common_scaling(cells: GeneCells, smooth: Smoothing, max_iter: int) -> float:
    """Median over genes of the scaling of unspliced counts where it is free."""
    return float(np.exp(np.median(log_scaling(fit_kinetics(cells, smooth, max_iter, None), cells))))


def log_scaling(parameters: np.ndarray, cells: GeneCells) -> np.ndarray:
    """Logarithm of what one unspliced count is in spliced ones, an array of shape (n_genes,)."""
    return parameters @ np.asarray(SCALING) + np.log(cells.std_u / cells.std_s)


def subset(cells: GeneCells, genes: np.ndarray | slice) -> GeneCells:
    """Some of the genes."""
    return GeneCells(*(z[..., genes] for z in cells))


def fit_kinetics(cells: GeneCells, smooth: Smoothing, max_iter: int, scaling: float | None) -> np.ndarray:
    """Logarithms of the parameters of each gene, of shape (n_genes, 4), in standard deviations of its counts."""
    n_genes = cells.x.shape[1]
    found = np.empty((n_genes, 4))

    def fit(part: slice) -> None:
        for at in range(part.start, part.stop, GENES_AT_ONCE):
            genes = slice(at, min(at + GENES_AT_ONCE, part.stop))
            found[genes] = fit_block(subset(cells, genes), smooth, max_iter, scaling)

    in_threads(fit, n_genes, GENES_AT_ONCE)
    return found


def fit_block(cells: GeneCells, smooth: Smoothing, max_iter: int, scaling: float | None) -> np.ndarray:
    """The best of the fits from several starts."""
    penalties = penalties_of(cells, scaling)
    fits = [settled(start, cells, smooth, penalties, max_iter) for start in starts(cells)]
    best = np.argmax([_likelihood(parameters, cells, smooth) for parameters in fits], axis=0)
    return np.stack(fits)[best, np.arange(len(best))]


def _likelihood(parameters: np.ndarray, cells: GeneCells, smooth: Smoothing) -> np.ndarray:
    curve = curve_of(parameters)
    found = nearest_states(curve, cells.x, cells.y)
    return log_likelihood(curve, found.chosen(smooth(found.preferred)), cells)


def penalties_of(cells: GeneCells, scaling: float | None) -> tuple[Penalty, ...]:
    """Steady states near the ratio of the highest counts, a common scaling, and a switch that is not extreme."""
    n, sds = cells.used.sum(axis=0).astype(float), np.log(cells.std_u / cells.std_s)
    found = [
        Penalty(RATIO, np.log(cells.slope) - sds, OF_RATIO * n),
        Penalty(SWITCH, np.full(len(n), np.log(USUAL_SWITCH)), OF_SWITCH * n),
    ]
    return tuple(found if scaling is None else [*found, Penalty(SCALING, np.log(scaling) - sds, OF_SCALING * n)])


def settled(
    parameters: np.ndarray, cells: GeneCells, smooth: Smoothing, penalties: tuple[Penalty, ...], max_iter: int
) -> np.ndarray:
    """The parameters with the least penalised sums of squares on the way from these."""
    best, least = parameters, np.full(len(parameters), np.inf)
    weight = cells.used + OF_UPPER * upper_cells(cells)
    for done in range(0, max_iter + STEPS_AT_ONCE, STEPS_AT_ONCE):
        found = nearest_states(curve_of(parameters), cells.x, cells.y)
        found = found.chosen(smooth(found.preferred))
        loss = (weight * found.square).sum(axis=0) + sum(penalty.at(parameters) for penalty in penalties)
        better = loss < least
        best, least = np.where(better[:, None], parameters, best), np.where(better, loss, least)
        if done < max_iter:
            few = condensed(Cells(cells.x, cells.y, weight, found.on, found.time))
            parameters = improved(parameters, few, penalties, min(STEPS_AT_ONCE, max_iter - done))
    return best


def starts(cells: GeneCells) -> list[np.ndarray]:
    """The nearest to the cells among curves about the steady state, from early switches to full repression."""
    rows = slice(None, None, max(len(cells.x) // FOR_START, 1))
    x, y, used = cells.x[rows], cells.y[rows], cells.used[rows]
    top_u, top_s = (np.percentile(np.where(cells.used, z, 0), 98, axis=0) for z in (cells.x, cells.y))
    found, losses = [], []
    for r, switch in SHAPES:
        parameters = start(top_u, top_s, r * cells.slope * cells.std_s / cells.std_u, switch)
        curve = curve_of(parameters)
        squares = [nearest(curve, x, y, on=state, points=16, steps=0).square for state in (True, False)]
        found.append(parameters)
        losses.append((used * np.minimum(*squares)).sum(axis=0))
    order = np.argsort(losses, axis=0, kind="stable")
    genes = np.arange(len(top_u))
    return [np.stack(found)[order[place], genes] for place in range(STARTED)]


def start(top_u: np.ndarray, top_s: np.ndarray, r: np.ndarray, switch: float) -> np.ndarray:
    """Parameters of curves that reach these counts, an array of shape (n_genes, 4)."""
    one = np.ones_like(r)
    shape = Curve(one, one, np.clip(r, 0.05, 10), switch * one)
    times = np.linspace(0, 5, 40)[:, None] / shape.slow
    most = shape.at(np.zeros((1, 1), bool), times)[1].max(axis=0)
    tiny = 1e-3
    scaled = np.maximum(top_u / started(shape, shape.switch)[0], tiny), np.maximum(top_s / most, tiny)
    return np.log(np.stack([*scaled, shape.r, shape.switch], axis=1))
