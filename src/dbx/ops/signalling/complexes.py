"""Ligands and receptors that may be complexes: a complex is as abundant as its weakest subunit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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

    def least(self, values: np.ndarray) -> np.ndarray:
        """Smallest value among the subunits, an array of shape (..., n_pairs); ``values`` are of genes."""
        least = values[..., self.columns[:, 0]]
        for subunit in self.columns.T[1:]:
            np.minimum(least, values[..., subunit], out=least)
        return least

    def most(self, values: np.ndarray) -> np.ndarray:
        """Largest value among the subunits, an array of shape (..., n_pairs)."""
        return -self.least(-values)

    def weakest(self, values: np.ndarray) -> np.ndarray:
        """Column number of the subunit with the smallest value, an array of shape (n_groups, n_pairs)."""
        at = values[:, self.columns].argmin(axis=2)
        return np.take_along_axis(self.columns[None], at[:, :, None], axis=2)[:, :, 0]
