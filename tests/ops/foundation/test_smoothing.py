"""Counts of neighbours beside loops over cells."""

import numpy as np

from dbx.ops.foundation import smoothing
from dbx.ops.foundation.smoothing import Neighbours, Similar, smoothed


def test_gene_shares_of_the_nearest_cells_of_the_batch_at_the_depth_of_the_cell(rng, monkeypatch):
    monkeypatch.setattr(smoothing, "N_NEIGHBOURS", 3)
    counts = rng.poisson(4, (12, 7)).astype(np.float32)
    points, batch = rng.normal(size=(12, 2)), np.repeat([0, 1, 2], [8, 3, 1])
    hidden = (rng.random(counts.shape) < 0.2).astype(np.float32)
    found = smoothed(counts, hidden, batch, points)
    other = smoothed(np.where(hidden > 0, 9, counts), hidden, batch, points)
    np.testing.assert_array_equal(found, other)
    for cell in range(12):
        near = [i for i in np.argsort(((points - points[cell]) ** 2).sum(axis=1)) if batch[i] == batch[cell]]
        near = near[1:4] if len(near) > 1 else near
        shown = 1 - hidden
        share = np.zeros(7)
        for gene in range(7):
            seen = [i for i in near if shown[i, gene]]
            total = sum((counts[i] * shown[i]).sum() for i in seen)
            share[gene] = sum(counts[i, gene] for i in seen) / max(total, 1)
        depth = (counts[cell] * shown[cell]).sum() / (share * shown[cell]).sum()
        np.testing.assert_allclose(found[cell], share * depth, rtol=1e-5)


def test_fitted_cells_have_the_counts_of_their_neighbours_and_new_ones_of_all_near_ones(rng, monkeypatch):
    """The kept cells give what the training was given: without the cell itself, which its copy has as a neighbour."""
    monkeypatch.setattr(smoothing, "N_NEIGHBOURS", 3)
    counts, signals, axes = (
        rng.poisson(4, (12, 7)).astype(np.float32),
        rng.normal(size=(12, 7)),
        rng.normal(size=(7, 2)),
    )
    own, new = np.arange(12, dtype=np.int32), np.full(12, -1, np.int32)
    for hidden in (None, (rng.random(counts.shape) < 0.2).astype(np.float32)):
        cells, near = Similar(axes, signals @ axes, counts, hidden), Neighbours()
        near.reset(cells)
        shown = np.ones_like(counts) if hidden is None else 1 - hidden
        expected = cells.smoothed(np.zeros(12, int))
        for rows in (own, -2 - own):
            np.testing.assert_allclose(near(signals, counts, shown, rows), expected, rtol=1e-4)
        monkeypatch.setattr(smoothing, "N_NEIGHBOURS", 1)
        alike = near(signals, counts, shown, new)
        np.testing.assert_allclose(alike * shown, counts * shown, rtol=1e-4)
        monkeypatch.setattr(smoothing, "N_NEIGHBOURS", 3)


def test_cells_at_one_point_are_not_their_own_neighbours(monkeypatch):
    monkeypatch.setattr(smoothing, "N_NEIGHBOURS", 2)
    near = smoothing._neighbours(np.zeros((5, 2)), np.zeros(5, int)).toarray()
    assert (near.sum(axis=1) == 2).all()
    assert (np.diag(near) == 0).all()
