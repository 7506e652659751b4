"""Curves that fits of kinetics start from."""

from __future__ import annotations

import numpy as np

from dbx.ops.dynamics.kinetic_cells import GeneCells
from dbx.ops.dynamics.kinetic_steps import curve_of
from dbx.ops.dynamics.projection import nearest_squares, spread_times
from dbx.ops.dynamics.splicing import Curve, started

SHAPES = tuple((r, switch) for r in (0.4, 1.0, 2.5) for switch in (1.0, 2.5, 6.0))
"""Ratio of rates relative to that of the steady state, and time of the switch, of the curves to start from."""
STARTED = 2
"""Starts that are followed: with the nearest curves."""
FOR_START = 400
"""Cells that starts are compared on."""
N_POINTS = 16
"""Points of each half of the curves."""


def starts(cells: GeneCells) -> list[np.ndarray]:
    """The nearest to the cells among curves about the steady state, from early switches to full repression."""
    rows = slice(None, None, max(len(cells.x) // FOR_START, 1))
    top_u, top_s = (np.percentile(np.where(cells.used, z, 0), 98, axis=0) for z in (cells.x, cells.y))
    found = np.stack([start(top_u, top_s, r * cells.slope * cells.std_s / cells.std_u, switch) for r, switch in SHAPES])
    u, s = (np.stack(z) for z in zip(*map(points, found), strict=True))
    losses = nearest_squares(cells.x[rows], cells.y[rows], cells.used[rows], u, s)
    order = np.argsort(losses, axis=0, kind="stable")
    genes = np.arange(len(top_u))
    return [found[order[place], genes] for place in range(STARTED)]


def points(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unspliced and spliced counts on both halves of curves, of shape (2 x N_POINTS, n_genes)."""
    curve = curve_of(parameters)
    halves = [curve.at(np.asarray(on), spread_times(curve, N_POINTS, on=on)) for on in (True, False)]
    u, s = (np.concatenate(z) for z in zip(*halves, strict=True))
    return u, s


def start(top_u: np.ndarray, top_s: np.ndarray, r: np.ndarray, switch: float) -> np.ndarray:
    """Parameters of curves that reach these counts, an array of shape (n_genes, 4)."""
    one = np.ones_like(r)
    shape = Curve(one, one, np.clip(r, 0.05, 10), switch * one)
    times = np.linspace(0, 5, 40)[:, None] / shape.slow
    most = shape.at(np.zeros((1, 1), bool), times)[1].max(axis=0)
    tiny = 1e-3
    scaled = np.maximum(top_u / started(shape, shape.switch)[0], tiny), np.maximum(top_s / most, tiny)
    return np.log(np.stack([*scaled, shape.r, shape.switch], axis=1))
