"""Symphony: cells of new batches mapped onto a Harmony reference with fixed clusters."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.ops.batch.harmony.levels import ordered, per_level
from dbx.ops.batch.harmony.ridge import ridge
from dbx.ops.values import Codes


class Reference(Protocol):
    """A fitted Harmony: its clusters, and the sums of its cells in each."""

    lamb: float | tuple[float, ...] | None
    alpha: float
    first: Any
    log_penalty: Any
    coefficients: Any
    reference_sizes: Any
    reference_sums: Any


class Grown(NamedTuple):
    """The state with places for new levels; their penalties and coefficients are zero."""

    first: np.ndarray
    log_penalty: np.ndarray
    coefficients: np.ndarray
    new: np.ndarray
    """Numbers of the new levels."""


def grow(operator: Reference, batch: Mapping[str, Codes]) -> Grown:
    """Add parameters for the levels that were not in the fit.

    Raises
    ------
    ValueError
        A key has fewer levels than in the fit.
    """
    old = np.asarray(operator.first[...])
    known, given = np.diff(old), np.array([codes.n_levels for codes in ordered(batch)])
    if len(known) != len(given) or (given < known).any():
        msg = (
            f"Harmony was fitted with {known.tolist()} levels of its keys; got {given.tolist()}: "
            "list the fitted levels first, then the new ones."
        )
        raise ValueError(msg)
    first = np.cumsum([0, *given])
    kept = np.concatenate([start + np.arange(n) for start, n in zip(first[:-1], known, strict=True)])
    n_steps, _, n_clusters, n_columns = operator.coefficients.shape
    penalty = np.zeros((n_steps, first[-1], n_clusters), operator.log_penalty.dtype)
    effect = np.zeros((n_steps, first[-1], n_clusters, n_columns), operator.coefficients.dtype)
    penalty[:, kept], effect[:, kept] = operator.log_penalty[...], operator.coefficients[...]
    return Grown(first.astype(np.int32), penalty, effect, np.setdiff1d(np.arange(first[-1]), kept))


def new_effects(operator: Reference, x: RowBlocks, batch: Mapping[str, Codes], new: np.ndarray) -> np.ndarray:
    """Coefficients of new levels, an array of shape (n_new, n_clusters, n_columns).

    Cells are softly assigned to the frozen centroids. The regression in each cluster includes the reference, by its
    size and sum only, and the new cells, with a common intercept.
    """
    first = np.asarray(operator.first[...])
    position = np.full(first[-1], -1)
    position[new] = np.arange(len(new))
    codes = [np.asarray(codes.codes) for codes in ordered(batch)]
    levels = [np.where(c < 0, -1, position[start + c]) for start, c in zip(first, codes, strict=False)]
    combinations, combination = np.unique(np.stack(levels, axis=1), axis=0, return_inverse=True)
    sizes, sums = _totals(operator, x, batch, combination.ravel(), len(combinations))
    mapped = (combinations >= 0).any(axis=1)
    sizes = np.vstack([sizes[mapped], operator.reference_sizes[...]])
    sums = np.concatenate([sums[mapped], operator.reference_sums[...][None]])
    cells_of = np.sum([np.bincount(level[level >= 0], minlength=len(new)) for level in levels], axis=0)
    expected = np.outer(cells_of / sizes.sum(), sizes.sum(axis=0))
    penalty = operator.alpha * expected
    if operator.lamb is not None:
        penalty = np.broadcast_to(_lamb(operator, first, new)[:, None], expected.shape)
    kept = np.broadcast_to((cells_of > 0)[:, None], expected.shape)
    combinations = np.vstack([combinations[mapped], np.full(len(levels), -1)])
    return ridge(sizes, sums, combinations, penalty, kept)[1]


def _totals(operator, x, batch, combination, n_combinations):
    """Sizes and sums of the cells of each combination of new levels in each cluster."""
    _, _, n_clusters, n_columns = operator.coefficients.shape
    sizes, sums = np.zeros((n_combinations, n_clusters)), np.zeros((n_combinations, n_clusters, n_columns))
    graphdef, state = nnx.split(operator)
    for block in x:
        extra = len(block.rows) - (block.stop - block.start)
        part = {
            name: Codes(np.pad(c.codes[block.start : block.stop], (0, extra), constant_values=-1), c.levels)
            for name, c in batch.items()
        }
        shares, z = jax.device_get(_assigned(graphdef, state, block.rows, part))
        for index in np.unique(combination[block.start : block.stop]):
            cells = np.flatnonzero(combination[block.start : block.stop] == index)
            sizes[index] += shares[cells].sum(axis=0, dtype=np.float64)
            sums[index] += shares[cells].T @ z[cells]
    return sizes, sums


@partial(jax.jit, static_argnums=0)
def _assigned(graphdef, state, x, batch):
    return nnx.merge(graphdef, state).assigned(x, batch)


def _lamb(operator, first, new):
    """Ridge penalty of new levels; if one was given per level, the mean of their key's."""
    n_old = first[-1] - len(new)
    if np.size(operator.lamb) in (1, len(first) - 1) or np.ndim(operator.lamb) == 0:
        return per_level(operator.lamb, first, "lamb")[new]
    known = np.full(first[-1], np.nan)
    known[np.setdiff1d(np.arange(first[-1]), new)] = operator.lamb[:n_old]
    key = np.searchsorted(first, new, side="right") - 1
    return np.array([np.nanmean(known[first[k] : first[k + 1]]) for k in key])
