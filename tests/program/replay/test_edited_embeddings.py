"""An embedding edited by hand after its step: the next step notes the gap, and a rerun stops there in words."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import dbx

pytestmark = pytest.mark.filterwarnings("ignore:Step .* was changed outside dbx")

EDITS = {
    "the first column dropped": lambda z: z[:, 1:],
    "every other column": lambda z: z[:, ::2],
    "a list of columns": lambda z: z[:, [4, 0]],
    "a column added": lambda z: np.column_stack([z, z[:, 0]]),
    "zeros added": lambda z: np.pad(z, [(0, 0), (0, 3)]),
    "columns reversed": lambda z: z[:, ::-1],
    "as a table": lambda z: pd.DataFrame(z[:, :3], columns=list("abc")),
    "as a sparse matrix": lambda z: sparse.csr_matrix(z[:, :3]),
}


@pytest.fixture
def adata(rng):
    adata = ad.AnnData(np.log1p(rng.poisson(2.0, (40, 20))).astype(np.float32))
    adata.var_names = [f"gene{i}" for i in range(20)]
    dbx.pp.pca(adata, n_comps=6)
    return adata


def put(adata, edit):
    edited = edit(adata.obsm["X_pca"].copy())
    if isinstance(edited, pd.DataFrame):
        edited.index = adata.obs_names
    adata.obsm["X_pca"] = edited


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_the_next_step_notes_the_gap(adata, edit):
    put(adata, edit)
    dbx.pp.scale(adata, obsm="X_pca", zero_center=False)
    assert dbx.steps(adata).loc["scale", "status"] == "gap"


@pytest.mark.parametrize("edit", [EDITS["the first column dropped"], EDITS["zeros added"]])
def test_a_step_after_subsetting_cells_and_columns_notes_it_too(adata, edit):
    adata = adata[::2].copy()
    put(adata, edit)
    dbx.pp.scale(adata, obsm="X_pca", zero_center=False)
    assert dbx.steps(adata).loc["scale", "status"] == "gap"


def test_subsetting_cells_alone_is_no_gap(adata):
    adata = adata[::2].copy()
    dbx.pp.scale(adata, obsm="X_pca", zero_center=False)
    assert dbx.steps(adata).loc["scale", "status"] == "ok"


def test_new_cells_stop_before_the_edit_with_words_that_name_it(analysed, counts):
    analysed.obsm["X_pca"] = analysed.obsm["X_pca"][:, 1:].copy()
    with pytest.warns(UserWarning, match="changed outside dbx after 'pca'"):
        dbx.pp.neighbors(analysed, use_rep="X_pca", n_neighbors=10)
    query = counts[:20].copy()
    query.obs_names = [f"new {name}" for name in query.obs_names]
    words = r"reference\.obsm\['X_pca'\], which was changed outside dbx after 'pca'"
    with pytest.raises(ValueError, match=words):
        dbx.rerun(query, analysed)
    assert not query.obsm
    with pytest.warns(UserWarning, match=words):
        dbx.rerun(query, analysed, partial=True)
    assert query.obsm["X_pca"].shape == (20, 5)
    assert "reference_connectivities" not in query.obsm
