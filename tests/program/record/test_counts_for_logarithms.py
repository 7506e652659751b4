"""Raw counts where logarithms are expected: said once, by the step that reads them, whichever it is."""

import warnings

import anndata as ad
import numpy as np
import pytest

import dbx

FIRST = "The values in adata.X look like raw counts"


@pytest.fixture(scope="module")
def made():
    rng = np.random.default_rng(0)
    adata = ad.AnnData(rng.poisson(3.0, (60, 12)).astype(np.float32))
    adata.obs_names = [f"cell{i}" for i in range(60)]
    adata.uns["iroot"] = 0
    return adata


STEPS = {
    "components": lambda adata: dbx.pp.pca(adata, n_comps=3),
    "neighbours of few genes": lambda adata: dbx.pp.neighbors(adata, n_neighbors=5),
    "neighbours in X": lambda adata: dbx.pp.neighbors(adata, use_rep="X", n_neighbors=5),
    "pseudotime": lambda adata: dbx.tl.pseudotime(adata, use_rep="X", knn=5),
    "clusters": lambda adata: dbx.tl.soft_kmeans(adata, 2, use_rep="X"),
    "archetypes": lambda adata: dbx.tl.archetypes(adata, 3, use_rep="X", max_iter=5),
    "layout": lambda adata: dbx.tl.phate(adata, use_rep="X", t=2),
    "graph of moments": lambda adata: dbx.pp.moments(adata, n_neighbors=5),
}


def said(step, adata) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        step(adata)
    return [str(one.message) for one in found if str(one.message).startswith(FIRST)]


@pytest.mark.parametrize("name", STEPS)
def test_it_is_said_once(made, name):
    adata = made.copy()
    adata.layers["spliced"] = adata.layers["unspliced"] = adata.X.copy()
    (words,) = said(STEPS[name], adata)
    assert "dbx.pp.normalize_total(adata) and dbx.pp.log1p(adata)" in words
    assert said(dbx.tl.diffmap if "connectivities" in adata.obsp else lambda _: None, adata) == []


def test_a_layer_is_named_and_logarithms_are_not_meant(made):
    adata = made.copy()
    adata.layers["counts"] = adata.X.copy()
    dbx.pp.log1p(adata)
    assert said(lambda adata: dbx.pp.pca(adata, n_comps=3), adata) == []
    with pytest.warns(dbx.DbxWarning, match=r"adata.layers\['counts'\] look like raw counts, whose components"):
        dbx.pp.pca(adata, n_comps=3, layer="counts")
