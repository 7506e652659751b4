"""Marker genes of growth: what is known of them, and growth from an organism's genes."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import dbx


def test_lists_are_of_both_organisms():
    human, mouse = (dbx.datasets.growth_markers(organism) for organism in ("human", "mouse"))
    assert {"MKI67", "PCNA", "TOP2A", "CENPU", "MLF1IP"} <= set(human["proliferation"])
    assert {"CASP3", "BAX", "FASLG"} <= set(human["apoptosis"])
    assert {"Mki67", "Pcna"} <= set(mouse["proliferation"])
    assert {"Casp3", "Fasl"} <= set(mouse["apoptosis"])
    for name, number in (("proliferation", 97), ("apoptosis", 161)):
        assert number <= len(human[name]) == len(mouse[name]) < number + 5
        assert len(set(mouse[name])) == len(mouse[name])
    with pytest.raises(ValueError, match="organism must be one of"):
        dbx.datasets.growth_markers("fly")


def test_growth_of_an_organism():
    markers = dbx.datasets.growth_markers("mouse")
    names = markers["proliferation"][:40] + markers["apoptosis"][:60]
    rng = np.random.default_rng(0)
    x = rng.gamma(1, 0.3, (80, 300)).astype(np.float32)
    x[:40, :40] += 0.5
    obs = pd.DataFrame({"day": [0.0, 1.0] * 40}, index=[f"c{i}" for i in range(80)])
    cells = ad.AnnData(x, obs=obs, var=pd.DataFrame(index=names + [f"Gm{i}" for i in range(200)]))
    cells.obsm["X_pca"] = rng.normal(size=(80, 3))
    with pytest.raises(ValueError, match="Only 0 of 1.. proliferation genes of human.*growth_genes=\"mouse\"|'mouse'"):
        dbx.tl.ot_trajectory(cells, "day", growth_genes="human")
    assert list(cells.obs) == ["day"]
    own = cells.copy()
    dbx.tl.ot_trajectory(cells, "day", growth_genes="mouse")
    growth = cells.obs["ot_prior_growth"].to_numpy()
    assert growth[:40].mean() > 1.5 * growth[40:].mean()
    given = {"proliferation": names[:40], "apoptosis": names[40:]}
    dbx.tl.ot_trajectory(own, "day", growth_genes=given)
    np.testing.assert_array_equal(own.obs["ot_prior_growth"], growth)
