"""Runs of equal state, beside the planted ones."""

import anndata as ad
import numpy as np

import dbx


def test_segments_are_the_planted_ones(rng):
    x = np.repeat([0.0, 5.0, 0.0, 5.0], [30, 20, 25, 25]) + 0.2 * rng.normal(size=100)
    data = ad.AnnData(np.stack([x, x], axis=1))
    data.obs["name"], data.obs["place"] = np.repeat(["a", "b"], 50), np.arange(100) * 10.0
    data = data[rng.permutation(100)].copy()
    dbx.tl.hmm(data, 2, sequence_key="name", position_key="place", state_names=["low", "high"])
    found = dbx.get.segments(data)
    assert found["sequence"].tolist() == ["a", "a", "b", "b"]
    assert found["start"].tolist() == [0, 300, 500, 750]
    assert found["end"].tolist() == [290, 490, 740, 990]
    assert found["length"].tolist() == [30, 20, 25, 25]
    assert found["state"].tolist() == ["low", "high", "low", "high"]
    np.testing.assert_allclose(found["mean"], [0, 5, 0, 5], atol=0.2)
    assert (found["posterior"] > 0.99).all()
