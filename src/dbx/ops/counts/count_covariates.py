"""Covariates of a cell besides its batch, for models of counts."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from dbx.ops.values import Array, Codes


def standards(numbers: Mapping[str, np.ndarray] | None) -> np.ndarray:
    """Mean and standard deviation of each covariate, in the order of names: an array of shape (2, n_numbers).

    Raises
    ------
    ValueError
        A covariate is not numeric, or is constant.
    """
    numbers = numbers or {}
    found = np.zeros((2, len(numbers)))
    for i, name in enumerate(sorted(numbers)):
        if isinstance(numbers[name], Codes):
            msg = f"{name!r} is not numeric: pass it in categorical_covariate_keys."
            raise ValueError(msg)
        found[:, i] = np.mean(numbers[name]), np.std(numbers[name])
        if found[1, i] == 0:
            msg = f"{name!r} is the same for all cells and explains nothing: leave it out."
            raise ValueError(msg)
    return found


def design(categories: Mapping[str, Codes] | None, numbers: Mapping[str, Array] | None, scale, dtype=jnp.float32):
    """Indicators of the categories and standardised numbers, of shape (n_cells, n_extra); None where there are none.

    A category that was not in the fit (code -1) has equal weights for all.
    """
    categories, numbers = categories or {}, numbers or {}
    columns = [_shares(categories[name], dtype) for name in sorted(categories)]
    for i, name in enumerate(sorted(numbers)):
        columns.append(((jnp.asarray(numbers[name]) - scale[0, i]) / scale[1, i]).astype(dtype)[:, None])
    return jnp.concatenate(columns, axis=1) if columns else None


def _shares(codes: Codes, dtype):
    known = jax.nn.one_hot(codes.codes, codes.n_levels, dtype=dtype)
    return jnp.where((jnp.asarray(codes.codes) < 0)[:, None], 1 / codes.n_levels, known)
