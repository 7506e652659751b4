"""Ligands and receptors that may be complexes: a complex is as abundant as its weakest subunit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from dbx.ops.arrays import array_library
from dbx.ops.values import Array


@dataclass(frozen=True)
class Complexes:
    """One side of the pairs: the subunits of each, padded with the first one."""

    columns: np.ndarray
    """Array of shape (n_pairs, most subunits), int: column numbers of genes."""
    n_subunits: np.ndarray
    """Array of shape (n_pairs,), int."""

    @classmethod
    def of(cls, columns: tuple[tuple[int, ...], ...]) -> Complexes:
        """From the column numbers of each."""
        n_subunits = np.array([len(one) for one in columns])
        width = n_subunits.max()
        padded = [[*one, *[one[0]] * (width - len(one))] for one in columns]
        return cls(np.array(padded), n_subunits)

    def select(self, index: slice | np.ndarray) -> Complexes:
        """Some of the pairs."""
        n_subunits = self.n_subunits[index]
        return Complexes(self.columns[index, : n_subunits.max()], n_subunits)

    def least(self, values: Array) -> Any:
        """Smallest value among the subunits, an array of shape (..., n_pairs); ``values`` are of genes."""
        return reduce(array_library(values).minimum, (values[..., subunit] for subunit in self.columns.T))

    def most(self, values: Array) -> Any:
        """Largest value among the subunits, an array of shape (..., n_pairs)."""
        return -self.least(-values)

    def weakest(self, values: np.ndarray) -> np.ndarray:
        """Column number of the subunit with the smallest value, an array of shape (n_groups, n_pairs)."""
        at = values[:, self.columns].argmin(axis=2)
        return np.take_along_axis(self.columns[None], at[:, :, None], axis=2)[:, :, 0]
