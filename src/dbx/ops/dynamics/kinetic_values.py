"""What is known of genes after a fit of their kinetics, and their velocities."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dbx.ops.dynamics.clock import total_times
from dbx.ops.dynamics.count_fit import fit_counts
from dbx.ops.dynamics.count_likelihood import of_constant as constant_log_probability
from dbx.ops.dynamics.count_likelihood import of_states
from dbx.ops.dynamics.count_states import Counts, states_of
from dbx.ops.dynamics.kinetic_cells import GeneCells
from dbx.ops.dynamics.kinetic_fit import Fit, log_scaling
from dbx.ops.dynamics.kinetic_likelihood import log_likelihood, of_constant
from dbx.ops.dynamics.kinetic_steps import Penalty, curve_of
from dbx.ops.dynamics.raw_counts import background

FEWEST_CELLS = 3
"""With both counts, without which a gene is not fitted."""
NAMES = (
    "std_u",
    "std_s",
    "likelihood",
    "constant_likelihood",
    "u0",
    "s0",
    "variance",
    "alignment_scaling",
    "direction",
    "agreement",
    "r2",
)


class Recovered(NamedTuple):
    """Arrays of shape (n_genes,); NaN for genes that cannot be fitted."""

    alpha: np.ndarray
    beta: np.ndarray
    gamma: np.ndarray
    t_: np.ndarray
    scaling: np.ndarray
    std_u: np.ndarray
    std_s: np.ndarray
    likelihood: np.ndarray
    constant_likelihood: np.ndarray
    u0: np.ndarray
    s0: np.ndarray
    variance: np.ndarray
    """Mean squared distance from the curve, in standard deviations."""
    alignment_scaling: np.ndarray
    """Units of the common time in a splicing time."""
    direction: np.ndarray
    """By how much swapping induction and repression lowers the mean log-likelihood."""
    agreement: np.ndarray
    """Correlation of velocity times elapsed time with displacement between neighbours."""
    r2: np.ndarray
    theta_u: np.ndarray
    theta_s: np.ndarray
    """Inverse dispersions of counts, where the likelihood is of these."""


def of_fit(fit: Fit, cells: GeneCells, low: tuple, t_max: float) -> tuple[np.ndarray, np.ndarray]:
    """What is recovered of some genes before their clocks are set, without agreement and R2, and their speeds."""
    curve, found = curve_of(fit.parameters), fit.states
    n_used = cells.used.sum(axis=0)
    variance = np.maximum((cells.used * found.square).sum(axis=0) / np.maximum(n_used, 1), 1e-12)
    likelihood, swapped = fit.likelihood, log_likelihood(curve, found.swapped, cells)
    direction = np.full(len(likelihood), np.nan)
    np.subtract(likelihood, swapped, out=direction, where=np.isfinite(likelihood) & np.isfinite(swapped))
    later = np.full(len(likelihood), np.nan)
    values = Recovered(
        **_rates(curve, fit.parameters, found.total_time(curve), cells, t_max),
        likelihood=np.exp(likelihood),
        constant_likelihood=np.exp(of_constant(cells)),
        u0=low[0],
        s0=low[1],
        variance=variance,
        direction=direction,
        agreement=later,
        r2=later,
        theta_u=later,
        theta_s=later,
    )
    return _of_enough_cells(values, n_used), found.speed(curve, variance)


def of_counts(
    start: Fit,
    cells: GeneCells,
    low: tuple,
    t_max: float,
    counts: Counts,
    near: Counts,
    penalties: tuple[Penalty, ...],
    max_iter: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The same by the likelihood of counts."""
    least = tuple(
        np.maximum(below / std, background(x, size))
        for below, std, x, size in (
            (low[0], cells.std_u, counts.u, counts.size_u),
            (low[1], cells.std_s, counts.s, counts.size_s),
        )
    )
    fit = fit_counts(counts, near, start.parameters, least, penalties, max_iter)
    curve, found = fit.model.curve, states_of(fit.model, fit.points, fit.weights)
    each = of_states(fit.model, found, counts).mean(axis=0)
    nothing = np.full(len(each), np.nan)
    values = Recovered(
        **_rates(curve, fit.parameters, found.total_time(curve), cells, t_max),
        likelihood=np.exp(each),
        constant_likelihood=np.exp(constant_log_probability(counts)),
        u0=least[0] * cells.std_u,
        s0=least[1] * cells.std_s,
        variance=nothing,
        direction=each - of_states(fit.model, found.swapped, counts).mean(axis=0),
        agreement=nothing,
        r2=nothing,
        theta_u=fit.model.theta_u,
        theta_s=fit.model.theta_s,
    )
    return _of_enough_cells(values, cells.used.sum(axis=0)), found.speed


def _rates(curve, parameters: np.ndarray, total_time: np.ndarray, cells: GeneCells, t_max: float) -> dict[str, Any]:
    """Rates and switching times in units of the common time, and what they were divided by."""
    unit, scaling = t_max / total_times(total_time, curve.switch), np.exp(log_scaling(parameters, cells))
    return {
        "alpha": curve.top_u * cells.std_u / scaling / unit,
        "beta": 1 / scaling / unit,
        "gamma": curve.r / unit,
        "t_": curve.switch * unit,
        "scaling": scaling,
        "std_u": cells.std_u,
        "std_s": cells.std_s,
        "alignment_scaling": unit,
    }


def _of_enough_cells(values: Recovered, n_used: np.ndarray) -> np.ndarray:
    """All of them, an array of shape (n_values, n_genes); genes with counts in too few cells are NaN."""
    table = np.stack(values)
    table[:, n_used < FEWEST_CELLS] = np.nan
    return table
