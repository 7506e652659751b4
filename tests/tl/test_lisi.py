"""``tl.lisi`` beside harmonypy."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from harmonypy import compute_lisi

from dbx.tl.lisi import lisi


@pytest.fixture
def cells(rng):
    x = rng.normal(size=(250, 5)).astype(np.float32)
    obs = pd.DataFrame({"batch": rng.choice(["a", "b"], 250), "number": rng.integers(3, size=250)})
    obs.index = obs.index.astype(str)
    x[obs["batch"] == "a"] += 1
    return AnnData(obs=obs, obsm={"X_pca": x, "X_other": x[:, ::-1] * 2})


def test_equals_harmonypy(cells):
    assert lisi(cells, ["batch", "number"]) is None
    expected = compute_lisi(cells.obsm["X_pca"].astype(float), cells.obs, ["batch", "number"], 30)
    np.testing.assert_allclose(cells.obs[["lisi_batch", "lisi_number"]], expected, rtol=2e-5)
    assert cells.obs["lisi_batch"].dtype == np.float64
    assert "dbx" not in cells.uns
    before = cells.obs.copy()
    found = lisi(cells, "batch", use_rep="X_other", perplexity=10, inplace=False)
    pd.testing.assert_frame_equal(cells.obs, before)
    expected = compute_lisi(cells.obsm["X_other"].astype(float), cells.obs, ["batch"], 10)
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    fewer = lisi(cells, "batch", perplexity=10, n_neighbors=15, inplace=False)
    assert np.abs(fewer - lisi(cells, "batch", perplexity=10, inplace=False)).to_numpy().max() > 0.01


def test_wrong_input(cells):
    with pytest.raises(KeyError, match="lane"):
        lisi(cells, "lane")
    with pytest.raises(KeyError, match="X_umap"):
        lisi(cells, "batch", use_rep="X_umap")
    with pytest.raises(ValueError, match="needs more neighbours than the 19"):
        lisi(cells[:20].copy(), "batch")
    cells.obs["batch"] = cells.obs["batch"].where(cells.obs["number"] > 0)
    with pytest.raises(ValueError, match="missing values"):
        lisi(cells, "batch")
    cells.obsm["X_pca"][3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        lisi(cells, "number")
    assert not [column for column in cells.obs if column.startswith("lisi")]
