"""Pairs within a radius beside SciPy's distances of all pairs."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from dbx.ops.graph.metrics import METRICS
from dbx.ops.graph.radius import within_radius


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan"])
def test_all_pairs_within_either_radius(rng, metric, monkeypatch):
    monkeypatch.setattr("dbx.ops.graph.radius.PAIRS", 700)  # several blocks
    x, reference = rng.normal(2, 1, (40, 5)), rng.normal(2, 1, (60, 5))
    apart = cdist(x, reference, "cityblock" if metric == "manhattan" else metric)
    radius, other = np.quantile(apart, 0.2, axis=1), np.quantile(apart, 0.1, axis=0)
    near = (apart <= radius[:, None] * (1 + 1e-12)) | (apart <= other * (1 + 1e-12))
    rows, columns, distances = within_radius(x, reference, radius * (1 + 1e-12), other * (1 + 1e-12), METRICS[metric])
    np.testing.assert_array_equal(np.column_stack(np.nonzero(near)), np.column_stack([rows, columns]))
    np.testing.assert_allclose(distances, apart[near], rtol=1e-12)
    rows, columns, _ = within_radius(x, reference, radius * (1 + 1e-12), None, METRICS[metric])
    assert len(rows) == (apart <= radius[:, None] * (1 + 1e-12)).sum()
