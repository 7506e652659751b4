"""Fates of all fitted cells as a differentiable function of their transitions: the solve and its transposed solve."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.ops.callbacks import on_host
from dbx.ops.diffusion.absorption import AbsorbingWalk
from dbx.ops.values import Array


@jax.custom_vjp
def settled(weights: Array, indices: Array, fates: Array, steps: Array, threshold: Array) -> tuple[Array, Array]:
    """Fates and steps of walks with these transitions, which are padded edges of shape (n_cells, width).

    ``fates`` and ``steps`` are those of the fitted transitions: ends have zero steps, and cells that reach no end NaN.
    They are returned as they are if they solve the system to within ``threshold``. The derivative is that of the
    solution, by the transposed system.
    """
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (fates, steps)]
    fates, steps = on_host(_solution, shapes, weights, indices, fates, steps, threshold)
    return fates, steps


def _forward(weights, indices, fates, steps, threshold):
    found = settled(weights, indices, fates, steps, threshold)
    return found, (weights, indices, *found)


def _backward(kept, cotangents):
    weights, indices, fates, steps = kept
    shapes = [jax.ShapeDtypeStruct(weights.shape, weights.dtype)]
    (slope,) = on_host(_slope, shapes, weights, indices, fates, steps, *cotangents)
    zeros = jnp.zeros_like(fates), jnp.zeros_like(steps), jnp.zeros((), weights.dtype)
    return slope, np.zeros(indices.shape, jax.dtypes.float0), *zeros


settled.defvjp(_forward, _backward)


def _solution(weights, indices, fates, steps, threshold):
    walk = _walk(weights, indices, fates, steps)
    values = np.nan_to_num(np.column_stack([fates, steps[:, 0]]))
    changed = walk.transitions[walk.free] @ values - values[walk.free]
    changed[:, -1] = (changed[:, -1] + 1) / max(values[:, -1].max(), 1)
    if np.abs(changed).max(initial=0) <= threshold:
        return fates, steps
    found = walk.absorbed()
    return found.fates.astype(fates.dtype), found.steps.astype(steps.dtype)


def _slope(weights, indices, fates, steps, to_fates, to_steps):
    """Derivative in the weights: with N the inverse, dF = N dT F, dm = N dT m, de = N (dT e + 2 dm).

    m is the mean of the steps, e the mean of their square.
    """
    fates, steps, to_fates, to_steps = (x.astype(np.float64) for x in (fates, steps, to_fates, to_steps))
    walk = _walk(weights, indices, fates, steps)
    free, mean = walk.free, np.nan_to_num(steps[:, 0])
    second = np.nan_to_num(steps[:, 1]) + mean**2
    to_fates, to_mean, to_second = to_fates[free], to_steps[free, 0], to_steps[free, 1]
    of_second = walk.solve(to_second[:, None], transposed=True)
    to_mean = to_mean - 2 * mean[free] * to_second + 2 * of_second[:, 0]
    rest = walk.solve(np.column_stack([to_fates, to_mean]), transposed=True)
    adjoint, values = np.column_stack([rest, of_second]), np.column_stack([np.nan_to_num(fates), mean, second])
    slope = np.zeros(weights.shape)
    for column, value in zip(adjoint.T, values.T, strict=True):
        slope[free] += column[:, None] * value[indices[free]]
    return (slope.astype(weights.dtype),)


def _walk(weights: np.ndarray, indices: np.ndarray, fates: np.ndarray, steps: np.ndarray) -> AbsorbingWalk:
    n, width = weights.shape
    rows = np.repeat(np.arange(n), width)
    kept = weights.ravel() != 0
    entries = (weights.ravel()[kept].astype(np.float64), (rows[kept], indices.ravel()[kept]))
    ends = np.where(steps[:, 0] == 0, np.nan_to_num(fates).argmax(axis=1), -1)
    return AbsorbingWalk(sparse.csr_matrix(entries, shape=(n, n)), ends, fates.shape[1])
