import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import dbx


@pytest.mark.parametrize("shrink", [None, "normal", "apeglm"])
def test_the_same_call_twice_gives_the_same(shrink):
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(5, 20, (8, 60)) * (1 + np.outer(np.arange(8) < 4, np.arange(60) < 20)))
    obs = pd.DataFrame({"condition": pd.Categorical(list("aaaabbbb"))}, index=[f"s{i}" for i in range(8)])
    adata = AnnData(counts.astype(np.float64), obs=obs)
    settings = {"fit_type": "mean", "shrink": shrink}
    dbx.tl.de(adata, "~ condition", **settings)
    first = adata.varm["de"].copy()
    dbx.tl.de(adata, "~ condition", **settings)
    pd.testing.assert_frame_equal(adata.varm["de"], first)
    assert ("svalue" in first) == (shrink == "apeglm")
    assert first.notna().all(axis=None)
