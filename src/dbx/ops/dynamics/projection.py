"""The time on a curve at which it is nearest to each cell."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dbx.ops.arrays import array_library
from dbx.ops.dynamics.splicing import Curve

N_POINTS = 32
"""Points of the curve in each state that are compared first."""
REFINED = 2
"""Steps towards the nearest point thereafter."""


class Nearest(NamedTuple):
    """Time in a state and squared distance from the curve there, arrays of shape (n_cells, n_genes)."""

    time: Any
    square: Any


def nearest(curve: Curve, x: Any, y: Any, *, on: bool, points: int = N_POINTS, steps: int = REFINED) -> Nearest:
    """The nearest point of one half of the curves to unspliced x and spliced y, arrays of shape (n_cells, n_genes)."""
    library = array_library(x)
    times = spread_times(curve, points, on=on)
    u, s = curve.at(library.asarray(on), times)  # arrays of shape (points, n_genes)
    length = (u**2 + s**2) / 2
    best = nearest_point(x, y, u, s, length) if library is np else _nearest_on_device(x, y, u, s, length)
    state = library.asarray(on)
    t = refined(curve, state, library.take_along_axis(times, best, axis=0), x, y, steps)
    u, s = curve.at(state, t)
    return Nearest(t, (x - u) ** 2 + (y - s) ** 2)


def spread_times(curve: Curve, points: int, *, on: bool) -> Any:
    """Times from 0 to the end of a state at which the curve moves about equally far, of shape (points, n_genes)."""
    library = array_library(curve.r)
    rate = library.sqrt(curve.slow)
    share = library.linspace(0.0, 1.0, points)[:, None].astype(curve.r.dtype)
    end = curve.switch if on else curve.rest
    return -library.log1p(-share * -library.expm1(-rate * end) * (1 - 1e-9)) / rate


def nearest_point(x: np.ndarray, y: np.ndarray, u: np.ndarray, s: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Number of the nearest of these points, an array of shape (n_cells, n_genes), int."""
    best = np.empty(x.shape, np.intp)
    points = np.stack([u, s], axis=2).astype(np.float32)
    cells = np.stack([x, y], axis=2).astype(np.float32)
    for gene in range(x.shape[1]):
        best[:, gene] = (length[:, gene].astype(np.float32) - cells[:, gene] @ points[:, gene].T).argmin(axis=1)
    return best


def nearest_squares(x: np.ndarray, y: np.ndarray, weight: np.ndarray, u: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Weighted sums of squared distances of cells from the nearest points of several curves.

    An array of shape (n_curves, n_genes); u and s are points, of shape (n_curves, n_points, n_genes).
    """
    n_curves, n_points, n_genes = u.shape
    found = np.empty((n_curves, n_genes))
    for gene in range(n_genes):
        cells = np.stack([x[:, gene], y[:, gene]], axis=1).astype(np.float32)
        points = np.stack([u[:, :, gene].ravel(), s[:, :, gene].ravel()]).astype(np.float32)
        apart = (points**2).sum(axis=0) / 2 - cells @ points
        least = 2 * apart.reshape(-1, n_curves, n_points).min(axis=2) + (cells**2).sum(axis=1)[:, None]
        found[:, gene] = weight[:, gene] @ least
    return found


def _nearest_on_device(x, y, u, s, length):
    def better(found, point):
        least, best, number = found
        u, s, length = point
        apart = length - x * u - y * s
        closer = apart < least
        return (jnp.where(closer, apart, least), jnp.where(closer, number, best), number + 1), None

    start = jnp.full(x.shape, jnp.inf, x.dtype), jnp.zeros(x.shape, jnp.int32), 0
    return jax.lax.scan(better, start, (u, s, length))[0][1]


def refined(curve: Curve, on: Any, t: Any, x: Any, y: Any, steps: int = REFINED) -> Any:
    """Times after Gauss-Newton steps towards the nearest point, within their state."""
    library = array_library(x)
    end = curve.end(on)
    for _ in range(steps):
        u, s = curve.at(on, t)
        along_u, along_s = curve.speed(on, u, s)
        step = ((x - u) * along_u + (y - s) * along_s) / library.maximum(along_u**2 + along_s**2, 1e-12)
        t = library.clip(t + step, 0.0, end)
    return t
