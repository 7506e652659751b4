"""Coordinates of cells centred and scaled within their slice, with stored means and deviations."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from dbx.ops.values import Array, Codes


def slice_scale(x: np.ndarray, codes: np.ndarray, n_slices: int) -> np.ndarray:
    """Mean and standard deviation of each slice, an array of shape (2, n_slices, n_dims), float64.

    A slice without cells has mean 0; a deviation of 0 becomes 1.
    """
    means = slice_means(x.astype(np.float64), codes, n_slices)
    deviations = np.sqrt(slice_means((x - means[codes]) ** 2, codes, n_slices))
    return np.stack([means, np.where(deviations > 1e-12 * np.abs(x).max(initial=1), deviations, 1)])


def slice_means(x: np.ndarray, codes: np.ndarray, n_slices: int) -> np.ndarray:
    """Mean of each slice, 0 of one without cells: an array of shape (n_slices, n_dims) in the dtype of ``x``."""
    # dbx.ops.arrays.group_means adds row by row: in single precision its error grows with the size of a slice
    members = (codes[:, None] == np.arange(n_slices)).astype(x.dtype)
    return members.T @ x / np.maximum(members.sum(axis=0), 1)[:, None]


def scaled_by_slice(x: Array, codes: Array, scale: Array) -> Array:
    """``x`` minus the mean of the cell's slice, divided by its deviation."""
    return (x - scale[0][codes]) / scale[1][codes]


def slice_codes(slices: Codes | None, n_cells: int) -> np.ndarray:
    """Number of each cell's slice; all 0 for one slice without a name."""
    return np.zeros(n_cells, int) if slices is None else np.asarray(slices.codes)


def device_codes(slices: Codes | None, n_cells: int):
    """The same on a device."""
    return jnp.zeros(n_cells, jnp.int32) if slices is None else jnp.asarray(slices.codes)
