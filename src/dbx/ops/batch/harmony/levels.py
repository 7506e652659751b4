"""Levels of one or several batch keys in one numbering, and row-wise products with the coefficients of each level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np

from dbx.ops.values import Array, Codes


@overload
def by_name(values: float | Sequence[float], keys: Sequence[str]) -> float | tuple[float, ...]: ...
@overload
def by_name(values: None, keys: Sequence[str]) -> None: ...
def by_name(values: Any, keys: Sequence[str]) -> float | tuple[float, ...] | None:
    """A setting given for each key, sorted by the keys' names, the order of operators.

    Raises
    ------
    ValueError
        There is no key, or one is repeated.
    """
    if not keys or len(set(keys)) < len(keys):
        msg = f'key={list(keys)} must name one column of obs or several different ones, such as key="batch".'
        raise ValueError(msg)
    if values is None or np.ndim(values) == 0:
        return values if values is None else float(values)
    values = [float(value) for value in values]
    if len(values) == len(keys):
        values = [value for _, value in sorted(zip(keys, values, strict=True))]
    return tuple(values)


def ordered(batch: Mapping[str, Codes]) -> list[Codes]:
    """The keys' codes in the order of the keys' names, which survives jit."""
    return [batch[name] for name in sorted(batch)]


def numbered(batch: Mapping[str, Codes]) -> tuple[np.ndarray, np.ndarray]:
    """Levels numbered over all keys: array of shape (n_cells, n_keys), and the first number of each key (and the end).

    Raises
    ------
    TypeError
        A key is numeric.
    ValueError
        A cell has no level, or all cells have the same.
    """
    for name in sorted(batch):
        codes = batch[name]
        if not isinstance(codes, Codes):
            msg = f"The batch key {name!r} is numeric; make it a category: adata.obs[{name!r}].astype('category')."
            raise TypeError(msg)
        missing = int((np.asarray(codes.codes) < 0).sum())
        if missing:
            msg = f"The batch key {name!r} has no value in {missing} cells: fill them or drop these cells first."
            raise ValueError(msg)
        present = np.unique(codes.codes)
        if len(present) < 2:
            level = f" ({codes.levels[present[0]]!r})" if len(present) else ""
            msg = f"All cells have the same {name!r}{level}: there is no batch to correct for."
            raise ValueError(msg)
    first = np.cumsum([0, *(codes.n_levels for codes in ordered(batch))])
    levels = [np.asarray(c.codes) + start for c, start in zip(ordered(batch), first[:-1], strict=True)]
    return np.stack(levels, axis=1), first


def per_level(value: float | tuple[float, ...], first: np.ndarray, name: str) -> np.ndarray:
    """A setting given as one number, one per key or one per level, as one per level."""
    values = np.asarray(value, np.float64)
    n_levels, n_keys = first[-1], len(first) - 1
    if values.ndim == 0:
        return np.full(n_levels, values)
    if len(values) == n_keys:
        return np.repeat(values, np.diff(first))
    if len(values) == n_levels:
        return values
    msg = f"{name} must be one number, one per key ({n_keys}) or one per level ({n_levels}); got {len(values)}."
    raise ValueError(msg)


class ByLevel(NamedTuple):
    """Rows sorted by level into tiles of one level: a product with the levels' coefficients is then a few large ones.

    Its run time does not depend on the number of levels.
    """

    row: Array
    """Array of shape (n_tiles, depth), int32: the row at each place, the number of rows at padding."""
    level: Array
    """Array of shape (n_tiles,), int32."""
    place: Array
    """Array of shape (n_rows,), int32: the place of each row."""

    @classmethod
    def of(cls, level: Array, n_levels: int) -> ByLevel:
        """Sort rows by ``level``, an array of shape (n_rows,), int32."""
        n_rows = len(level)
        depth = min(max(1 << (n_rows // n_levels).bit_length(), 8), 256)
        n_tiles = n_rows // depth + n_levels
        sizes = (level == jnp.arange(n_levels)[:, None]).sum(axis=1)
        tiles = -(-sizes // depth)
        order = jnp.argsort(level, stable=True)
        gap = depth * (jnp.cumsum(tiles) - tiles) - (jnp.cumsum(sizes) - sizes)
        place = jnp.arange(n_rows) + gap[level[order]]
        row = jnp.full(n_tiles * depth, n_rows).at[place].set(order).reshape(n_tiles, depth)
        of_tile = (jnp.cumsum(tiles) <= jnp.arange(n_tiles)[:, None]).sum(axis=1)
        return cls(row, jnp.minimum(of_tile, n_levels - 1), jnp.zeros_like(order).at[order].set(place))

    def times(self, shares: jax.Array, coefficients: jax.Array) -> jax.Array:
        """Memberships (n_rows, n_clusters) times the coefficients (n_levels, n_clusters, n_columns) of the levels."""
        tiles = shares.at[self.row].get(mode="fill", fill_value=0)
        product = jnp.einsum("tik,tkd->tid", tiles, coefficients[self.level])
        return product.reshape(-1, product.shape[-1])[self.place]
