"""Levenberg-Marquardt steps of kinetic parameters, with the times of cells eliminated."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbx.ops.dynamics.projection import refined
from dbx.ops.dynamics.splicing import Curve, exponentials, started

LOW = np.log([1e-3, 1e-3, 0.02, 0.05])
HIGH = np.log([1e3, 1e3, 20.0, 30.0])
"""Bounds of the parameters."""
SHIFT = 1e-5
"""Relative change of r by which its derivative is found."""


class Cells(NamedTuple):
    """What curves are fitted to, arrays of shape (n_cells, n_genes)."""

    x: np.ndarray
    """Unspliced counts in standard deviations."""
    y: np.ndarray
    """Spliced counts in standard deviations."""
    weight: np.ndarray
    on: np.ndarray
    """State of the gene in the cell, bool."""
    time: np.ndarray
    """Time in this state."""


class Penalty(NamedTuple):
    """weight (form @ parameters - target)^2 for each gene; weight and target are arrays of shape (n_genes,)."""

    form: tuple[float, float, float, float]
    target: np.ndarray
    weight: np.ndarray

    def at(self, parameters: np.ndarray) -> np.ndarray:
        """Its value."""
        return self.weight * self._apart(parameters) ** 2

    def add(self, hessian: np.ndarray, slope: np.ndarray, parameters: np.ndarray) -> None:
        """Add half of its second, and of its negative first derivatives."""
        form = np.asarray(self.form)
        hessian += self.weight[:, None, None] * np.outer(form, form)
        slope -= (self.weight * self._apart(parameters))[:, None] * form

    def repeated(self, times: int) -> Penalty:
        """The same for several fits of each gene, one after the other."""
        return self._replace(target=np.tile(self.target, times), weight=np.tile(self.weight, times))

    def _apart(self, parameters: np.ndarray) -> np.ndarray:
        return parameters @ np.asarray(self.form) - self.target


def curve_of(parameters: np.ndarray) -> Curve:
    """Curves of the logarithms of their parameters, an array of shape (n_genes, 4)."""
    return Curve(*np.exp(parameters).T)


def improved(parameters: np.ndarray, cells: Cells, penalties: tuple[Penalty, ...], n_steps: int) -> np.ndarray:
    """Parameters with smaller penalised sums of squared distances of cells from the curves of their states."""
    damping = np.full(len(parameters), 1e-2)
    loss, time = loss_of(parameters, cells, penalties)
    for _ in range(n_steps):
        cells = cells._replace(time=time)
        proposed = np.clip(parameters + step(parameters, cells, penalties, damping), LOW, HIGH)
        longer = np.exp(proposed[:, 3] - parameters[:, 3])
        there = cells._replace(time=np.where(cells.on, time * longer, time))
        new_loss, new_time = loss_of(proposed, there, penalties)
        better = new_loss < loss
        parameters = np.where(better[:, None], proposed, parameters)
        time, loss = np.where(better, new_time, time), np.where(better, new_loss, loss)
        damping = np.clip(np.where(better, damping / 5, damping * 5), 1e-6, 1e6)
    return parameters


def loss_of(parameters: np.ndarray, cells: Cells, penalties: tuple[Penalty, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Penalised sum of squares of each gene, and the times of cells."""
    curve = curve_of(parameters)
    time = refined(curve, cells.on, cells.time, cells.x, cells.y)
    u, s = curve.at(cells.on, time)
    loss = (cells.weight * ((cells.x - u) ** 2 + (cells.y - s) ** 2)).sum(axis=0)
    return loss + sum(penalty.at(parameters) for penalty in penalties), time


def step(parameters: np.ndarray, cells: Cells, penalties: tuple[Penalty, ...], damping: np.ndarray) -> np.ndarray:
    """A damped Gauss-Newton step, an array of shape (n_genes, 4).

    A cell's time follows the parameters, so that only its distance across the curve counts, except at either end.
    """
    curve, on, t = curve_of(parameters), cells.on, cells.time
    u, s = curve.at(on, t)
    along_u, along_s = curve.speed(on, u, s)
    speed = np.sqrt(np.maximum(along_u**2 + along_s**2, 1e-300))
    along_u, along_s = along_u / speed, along_s / speed
    slopes_u, slopes_s = derivatives(curve, on, t, u, s)
    across = slopes_s * along_u - slopes_u * along_s
    forward = (slopes_u * along_u + slopes_s * along_s) * ((t <= 0) | (t >= curve.end(on)))
    residual_u, residual_s = cells.x - u, cells.y - s
    weighted = across * cells.weight, forward * cells.weight
    hessian = np.einsum("acg,bcg->gab", weighted[0], across) + np.einsum("acg,bcg->gab", weighted[1], forward)
    slope = np.einsum("acg,cg->ga", weighted[0], residual_s * along_u - residual_u * along_s)
    slope += np.einsum("acg,cg->ga", weighted[1], residual_u * along_u + residual_s * along_s)
    for penalty in penalties:
        penalty.add(hessian, slope, parameters)
    diagonal = np.einsum("gaa->ga", hessian)
    diagonal += damping[:, None] * diagonal + 1e-9 * diagonal.sum(axis=1, keepdims=True) + 1e-12
    return np.clip(np.linalg.solve(hessian, slope[:, :, None])[:, :, 0], -1, 1)


def derivatives(
    curve: Curve, on: np.ndarray, t: np.ndarray, u: np.ndarray, s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of both counts in the parameters, of shape (4, n_cells, n_genes); times on grow with the switch."""
    shifted = curve._replace(r=curve.r * (1 + SHIFT)).at(on, t)[1]
    top = started(curve, curve.switch)
    top_u, top_s = (x * curve.switch for x in curve.speed(np.ones(curve.r.shape, bool), *top))
    fast, slow, between = exponentials(t, curve.r)
    along_u, along_s = curve.speed(on, u, s)
    by_switch_u = np.where(on, t * along_u, top_u * fast)
    by_switch_s = np.where(on, t * along_s, top_s * slow + curve.top_s * curve.r / curve.top_u * top_u * between)
    zero = np.zeros_like(u)
    return np.stack([u, zero, zero, by_switch_u]), np.stack([zero, s, (shifted - s) / SHIFT, by_switch_s])
