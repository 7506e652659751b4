"""Senders' ligands moved to elsewhere in the tissue, against which links are tested."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from dbx.ops.signalling.smooth import in_unit_box


class MovedSenders:
    """Ligands of the cells as if each were elsewhere in its slice.

    Positions are mirrored and moved at random, around the edges of the slice. A cell gets the quantile that the ligand
    has in the cell nearest to its moved position, each among the cells of its own group. So each group keeps its
    amounts of every ligand, and amounts of neighbours are as alike as before, which permuting them would break.
    """

    def __init__(
        self, senders: np.ndarray, points: np.ndarray, slices: np.ndarray, groups: np.ndarray, rng: np.random.Generator
    ):
        self.points, self.rng = points, rng
        self.slices = [np.flatnonzero(slices == code) for code in np.unique(slices)]
        strata = groups * (slices.max() + 1) + slices
        self.strata = [np.flatnonzero(strata == code) for code in np.unique(strata)]
        self.ordered = [np.sort(senders[of], axis=0) for of in self.strata]
        self.quantiles = np.empty(senders.shape, np.float32)
        for of in self.strata:
            ties = rng.permutation(len(of))
            order = ties[np.argsort(senders[of[ties]], axis=0, kind="stable")]
            ranks = np.empty_like(order)
            np.put_along_axis(ranks, order, np.arange(len(of))[:, None], axis=0)
            self.quantiles[of] = (ranks + 0.5) / len(of)

    def draw(self) -> np.ndarray:
        """Ligands of all cells for another move, an array of shape (n_cells, n_ligands)."""
        source = np.empty(len(self.points), int)
        for cells in self.slices:
            source[cells] = cells[self._nearest(self.points[cells])]
        moved = np.empty(self.quantiles.shape, self.ordered[0].dtype)
        for of, ordered in zip(self.strata, self.ordered, strict=True):
            ties = self.rng.permutation(of)
            order = np.argsort(self.quantiles[source[ties]], axis=0, kind="stable")
            values = np.empty_like(ordered)
            np.put_along_axis(values, order, ordered, axis=0)
            moved[ties] = values
        return moved

    def _nearest(self, points: np.ndarray) -> np.ndarray:
        """The cell nearest to the moved position of each."""
        box = in_unit_box(points)
        n_axes = points.shape[1]
        mirrored = np.where(self.rng.random(n_axes) < 0.5, 1 - box, box)
        size = np.ptp(points, axis=0)
        return cKDTree(box * size).query((mirrored + self.rng.random(n_axes)) % 1 * size)[1]
