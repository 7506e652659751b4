"""Rotations and shifts between two slices: weighted Procrustes, and a fit that tolerates wrong matches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

N_DRAWS = 2000
"""Pairs of matches that a robust fit tries."""
BLOCK = 1 << 18
"""Residuals that are held at a time."""
CUTOFF = 3.0
"""Residuals beyond this many spacings have no weight in a robust fit."""


class Rigid(NamedTuple):
    """y -> rotation y + shift."""

    rotation: np.ndarray
    shift: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """The points in the other frame."""
        return points @ self.rotation.T + self.shift

    def after(self, first: Rigid) -> Rigid:
        """The map that applies another one first."""
        return Rigid(self.rotation @ first.rotation, self.rotation @ first.shift + self.shift)


def identity(n_dims: int) -> Rigid:
    """The map that moves nothing."""
    return Rigid(np.eye(n_dims), np.zeros(n_dims))


def _rotation(cross: np.ndarray, *, reflect: bool) -> np.ndarray:
    """The rotation of least squares for the cross-covariance of pairs, or those for a stack of them (Kabsch)."""
    left, _, right = np.linalg.svd(cross)
    if not reflect:
        left[..., -1] *= np.sign(np.linalg.det(left @ right))[..., None]
    return left @ right


def of_pairs(x: np.ndarray, y: np.ndarray, weights: np.ndarray, *, reflect: bool = False) -> Rigid:
    """The map from ``y`` to ``x``, row by row, of weighted least squares."""
    weights = weights / weights.sum()
    to, of = weights @ x, weights @ y
    rotation = _rotation((x - to).T @ ((y - of) * weights[:, None]), reflect=reflect)
    return Rigid(rotation, to - rotation @ of)


def of_plan(plan, x: np.ndarray, y: np.ndarray, *, reflect: bool = False) -> Rigid:
    """The map from ``y`` to ``x`` by a sparse coupling of their rows."""
    pairs = plan.tocoo()
    return of_pairs(x[pairs.row], y[pairs.col], pairs.data, reflect=reflect)


def by_axes(x: np.ndarray, y: np.ndarray, *, reflect: bool) -> dict[str, Rigid]:
    """Maps from ``y`` to ``x`` that lay the principal axes of one on those of the other, turned by right angles."""
    axes_x, axes_y = principal_axes(x), principal_axes(y)
    n_dims = x.shape[1]
    found = {}
    for flip in (1.0, -1.0)[: 1 + int(reflect)]:
        for turn in range(4):
            angle = turn * np.pi / 2
            rotation = np.eye(n_dims)
            rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
            rotation[:, -1] *= flip
            rotation = axes_x.T @ rotation @ axes_y
            name = f"turned by {90 * turn}" + (", mirrored" if flip < 0 else "")
            found[name] = Rigid(rotation, x.mean(axis=0) - rotation @ y.mean(axis=0))
    return found


def principal_axes(points: np.ndarray) -> np.ndarray:
    """Principal axes as rows, with determinant 1."""
    axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2]
    axes[-1] *= np.sign(np.linalg.det(axes))
    return axes


def robust(x: np.ndarray, y: np.ndarray, spacing: float, rng: np.random.Generator, *, reflect: bool = False) -> Rigid:
    """The map from ``y`` to ``x`` that most matches agree with: random sampling, then reweighted least squares."""
    size = x.shape[1] if reflect else 2
    drawn = rng.integers(0, len(x), (N_DRAWS, size))
    drawn = drawn[np.linalg.norm(y[drawn[:, 0]] - y[drawn[:, 1]], axis=1) > spacing]
    best, most = identity(x.shape[1]), -1.0
    step = max(1, BLOCK // len(x))
    for start in range(0, len(drawn), step):
        rotations, shifts = _of_few(x[drawn[start : start + step]], y[drawn[start : start + step]], reflect=reflect)
        residual = rotations @ y.T
        residual += shifts[:, :, None]
        residual -= x.T
        residual *= residual
        agreeing = _biweight_of_square(residual.sum(axis=1) / spacing**2).sum(axis=1)
        i = int(agreeing.argmax())
        if agreeing[i] > most:
            best, most = Rigid(rotations[i], shifts[i]), float(agreeing[i])
    return reweighted(x, y, np.ones(len(x)), best, spacing, reflect=reflect)[0]


def _of_few(x: np.ndarray, y: np.ndarray, *, reflect: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rotations and shifts of many maps, each of a few pairs, for arrays of shape (n_maps, n_pairs, n_dims)."""
    to, of = x.mean(axis=1), y.mean(axis=1)
    rotations = _rotation(np.einsum("kni,knj->kij", x - to[:, None], y - of[:, None]), reflect=reflect)
    return rotations, to - np.einsum("kij,kj->ki", rotations, of)


def biweight(residual: np.ndarray) -> np.ndarray:
    """Tukey's weights of residuals in spacings."""
    return _biweight_of_square(residual**2)


def _biweight_of_square(square: np.ndarray) -> np.ndarray:
    weights = square * -(CUTOFF**-2)
    weights += 1
    np.maximum(weights, 0, out=weights)
    weights *= weights
    return weights


def reweighted(
    x: np.ndarray,
    y: np.ndarray,
    masses: np.ndarray,
    start: Rigid,
    spacing: float,
    *,
    reflect: bool,
    n_iterations: int = 20,
) -> tuple[Rigid, np.ndarray]:
    """Least squares with weights that fall with the residuals, from a map that is about right; and the weights."""
    found, weights = start, masses
    for _ in range(n_iterations):
        agreeing = masses * biweight(np.linalg.norm(found(y) - x, axis=1) / spacing)
        if np.count_nonzero(agreeing) <= x.shape[1]:
            break
        found, weights = of_pairs(x, y, agreeing, reflect=reflect), agreeing
    return found, weights
