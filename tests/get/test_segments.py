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


def test_segments_along_genes(rng):
    x = np.zeros((3, 40))
    x[1, 5:15], x[2, 30:] = 5, 5
    data = ad.AnnData(x + 0.2 * rng.normal(size=x.shape))
    data.X[1, 7] = np.nan
    data.var["chromosome"], data.var["start"] = ["1"] * 20 + ["2"] * 18 + [None] * 2, 10 * np.arange(40)
    dbx.tl.hmm(data, 2, axis="var", state_names=["low", "high"])
    found = dbx.get.segments(data)
    rows = ["0"] * 2 + ["1"] * 4 + ["2"] * 3
    assert found["row"].tolist() == rows
    assert found["sequence"].tolist() == ["1", "2", "1", "1", "1", "2", "1", "2", "2"]
    assert found["start"].tolist() == [0, 200, 0, 50, 150, 200, 0, 200, 300]
    assert found["end"].tolist() == [190, 370, 40, 140, 190, 370, 190, 290, 370]
    assert found["length"].tolist() == [20, 18, 5, 10, 5, 18, 20, 10, 8]
    assert found["state"].tolist() == ["low", "low", "low", "high", "low", "low", "low", "low", "high"]
    run = data.X[1, 5:15]
    np.testing.assert_allclose(found["mean"][3], np.nanmean(run))
    assert found["posterior"].isna().all()
