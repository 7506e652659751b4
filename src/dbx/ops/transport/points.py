"""Two sets of points whose squared distance is the exponent of their coupling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

Scale = Literal["median", "mean"] | float

SAMPLED = 1_000_000
"""Entries of the cost of which the scale is found where there are more."""


class Units(NamedTuple):
    """A common centre of two sets of points, and a length."""

    centre: np.ndarray
    length: float

    @classmethod
    def around(cls, x: np.ndarray, y: np.ndarray, unit: float) -> Units:
        """``unit`` is the square of the length: the scale of costs, or that times epsilon."""
        return cls((x.sum(axis=0) + y.sum(axis=0)) / (len(x) + len(y)), float(np.sqrt(unit)))

    def within(self, z: np.ndarray) -> np.ndarray:
        """Points in these units."""
        return (z - self.centre) / self.length

    def without(self, z: np.ndarray) -> np.ndarray:
        """Points in units of their own again."""
        return z * self.length + self.centre


@dataclass(frozen=True)
class Points:
    """Points of both sides, in units in which their squared distance is cost / epsilon, around a common centre."""

    x: np.ndarray
    """Array of shape (n, n_dims), float64."""
    y: np.ndarray
    """Array of shape (m, n_dims), float64."""

    @classmethod
    def scaled(cls, x: np.ndarray, y: np.ndarray, unit: float) -> Points:
        """Points of two sides; ``unit`` is the scale of costs times epsilon."""
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        units = Units.around(x, y, unit)
        return cls(units.within(x), units.within(y))

    def left(self, rows: slice | np.ndarray, phi: np.ndarray | float, dtype: Any) -> np.ndarray:
        """What times :meth:`right` is phi_i + gamma_j - distance_ij^2, an array of shape (n_rows, n_dims + 2)."""
        x = self.x[rows]
        return np.column_stack([2 * x, phi - (x**2).sum(axis=1), np.ones(len(x))]).astype(dtype)

    def right(self, gamma: np.ndarray | float, dtype: Any) -> np.ndarray:
        """Array of shape (n_dims + 2, m)."""
        y = self.y
        return np.vstack([y.T, np.ones(len(y)), gamma - (y**2).sum(axis=1)]).astype(dtype)

    def flipped(self) -> Points:
        """The same points with the sides exchanged."""
        return Points(self.y, self.x)


def cost_scale(x: np.ndarray, y: np.ndarray, scale: Scale, seed: int = 0) -> float:
    """The number that costs are divided by: their median or mean, of sampled entries where there are very many."""
    if not isinstance(scale, str):
        return float(scale)
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(x) * len(y) <= SAMPLED:
        cost = ((x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T).ravel()
    else:
        rng = np.random.default_rng(seed)
        i, j = rng.integers(0, len(x), SAMPLED), rng.integers(0, len(y), SAMPLED)
        cost = ((x[i] - y[j]) ** 2).sum(axis=1)
    return float(np.median(cost) if scale == "median" else cost.mean())
