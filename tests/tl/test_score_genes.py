"""Gene scores beside scanpy's: the same control genes, so the same numbers up to rounding."""

import anndata as ad
import dask.array as da
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

import dbx
from dbx.program.record.registry import load

ROUNDING = 1e-5
"""scanpy 1.11 adds the few hundred values of a sparse row in float32, dbx in float64; another control gives 1e-2."""


@pytest.fixture(scope="module")
def _logged():
    adata = dbx.datasets.mixology()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    del adata.uns["dbx"]
    return adata


@pytest.fixture
def logged(_logged):
    return _logged.copy()


def genes_of(adata, n=40, seed=0):
    return list(np.random.default_rng(seed).choice(adata.var_names, n, replace=False))


KINDS = {
    "csr": lambda x: x,
    "csc": sparse.csc_matrix,
    "dense": lambda x: x.toarray(),
    "float64": lambda x: x.toarray().astype("f8"),
    "fortran": lambda x: np.asfortranarray(x.toarray()),
    "int": lambda x: sparse.csr_matrix(np.rint(x.toarray()).astype("i8")),
}


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("ctrl_as_ref", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_as_scanpy(logged, kind, ctrl_as_ref, pool):
    logged.X = KINDS[kind](sparse.csr_matrix(logged.X))
    genes = genes_of(logged)
    settings = {"ctrl_as_ref": ctrl_as_ref, "gene_pool": genes + genes_of(logged, 800, seed=1) if pool else None}
    expected = sc.tl.score_genes(logged, genes, copy=True, **settings).obs["score"]
    dbx.tl.score_genes(logged, genes, **settings)
    assert logged.obs["score"].dtype == expected.dtype
    np.testing.assert_allclose(logged.obs["score"], expected, atol=ROUNDING)


@pytest.mark.parametrize(
    "settings",
    [{"ctrl_size": 7}, {"n_bins": 5}, {"random_state": 3}, {"layer": "half"}, {"use_raw": False}, {"score_name": "s"}],
    ids=str,
)
def test_settings_as_scanpy(logged, settings):
    logged.raw = logged
    logged.layers["half"] = logged.X * 0.5
    logged = logged[:, ::2].copy()
    logged.X = logged.X * 2
    genes = genes_of(logged)
    name = settings.get("score_name", "score")
    plain = dbx.tl.score_genes(logged, genes, copy=True).obs["score"]
    expected = sc.tl.score_genes(logged, genes, copy=True, **settings).obs[name]
    found = dbx.tl.score_genes(logged, genes, copy=True, **settings).obs[name]
    np.testing.assert_allclose(found, expected, atol=ROUNDING)
    assert np.allclose(found, plain, atol=ROUNDING) is (name == "s")  # every setting does something; raw is the default


def test_lazy_and_backed_arrays_as_in_memory(logged, tmp_path):
    genes = genes_of(logged)
    expected = dbx.tl.score_genes(logged, genes, copy=True).obs["score"]
    logged.write(tmp_path / "x.h5ad")
    lazy = logged.copy()
    lazy.X = da.from_array(logged.X.toarray(), chunks=(100, logged.n_vars))
    for adata in (lazy, ad.read_h5ad(tmp_path / "x.h5ad", backed="r")):
        dbx.tl.score_genes(adata, genes)
        np.testing.assert_allclose(adata.obs["score"], expected, atol=ROUNDING)


@pytest.mark.parametrize("settings", [{}, {"ctrl_as_ref": False, "n_bins": 10, "random_state": 1}], ids=str)
def test_cell_cycle_as_scanpy(logged, settings):
    s, g2m = genes_of(logged, 30), genes_of(logged, 20, seed=1)
    expected = sc.tl.score_genes_cell_cycle(logged, s_genes=s, g2m_genes=g2m, copy=True, **settings).obs
    dbx.tl.score_genes_cell_cycle(logged, s_genes=s, g2m_genes=g2m, **settings)
    for name in ("S_score", "G2M_score"):
        np.testing.assert_allclose(logged.obs[name], expected[name], atol=ROUNDING)
    assert expected["phase"].nunique() == 3
    assert (logged.obs["phase"].astype(str) == expected["phase"].astype(str)).all()


def test_new_cells_have_the_same_controls_and_need_no_other_genes(logged):
    genes = genes_of(logged)
    query = logged[::3].copy()
    dbx.tl.score_genes(logged, genes)
    dbx.tl.score_genes_cell_cycle(logged, s_genes=genes[:20], g2m_genes=genes[20:])
    step = load(logged)["score_genes"]
    controls = step.genes[list(step.config["controls"])]
    assert set(step.genes) == {*genes, *controls}
    used = sorted({gene for step in load(logged) for gene in step.genes})
    query = query[:, used].copy()
    query.X = sparse.csr_matrix(query.X.multiply(np.linspace(1, 2, query.n_vars)), dtype="f4")  # other means
    values = query.to_df().astype("f8")
    dbx.rerun(query, logged)
    expected = values[genes].mean(axis=1) - values[controls].mean(axis=1)
    np.testing.assert_allclose(query.obs["score"], expected, atol=1e-9)
    np.testing.assert_array_equal(query.obs["phase"].cat.categories, ["G1", "G2M", "S"])


def test_own_cells_give_the_stored_score(logged):
    dbx.tl.score_genes(logged, genes_of(logged))
    stored = logged.obs.pop("score")
    dbx.rerun(logged)
    np.testing.assert_array_equal(logged.obs["score"], stored)


def test_missing_genes_are_named(logged):
    genes = genes_of(logged)
    expected = dbx.tl.score_genes(logged, genes, copy=True).obs["score"]
    with pytest.warns(UserWarning, match="2 of 42 genes of gene_list .* 'Absent1', 'Absent2'"):
        found = dbx.tl.score_genes(logged, [*genes, "Absent1", "Absent2"], copy=True).obs["score"]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"gene_list": ["absent"]}, "None of the genes of gene_list is in var_names"),
        ({"gene_list": []}, "an empty list"),
        ({"gene_pool": ["absent"]}, "None of the genes of gene_pool"),
        ({"gene_pool": "other"}, "gene_pool must contain the scored genes"),
        ({"n_bins": 1}, "n_bins must be at least 2"),
        ({"ctrl_size": 0}, "ctrl_size must be at least 1"),
        ({"use_raw": True}, "adata.raw is empty"),
        ({"gene_pool": "own"}, "no control gene in any bin"),
        ({"score_name": "a/b"}, "score_name must be a name"),
        ({"layer": "none"}, "layers"),
    ],
    ids=str,
)
def test_wrong_calls_say_what_to_do(logged, call, said):
    genes = genes_of(logged)
    pools = {"other": [gene for gene in logged.var_names if gene not in genes], "own": genes}
    call = {name: pools.get(value, value) if isinstance(value, str) else value for name, value in call.items()}
    before = logged.copy()
    with pytest.raises((ValueError, KeyError), match=said):
        dbx.tl.score_genes(logged, **{"gene_list": genes, **call})
    assert list(logged.obs) == list(before.obs)
    assert "dbx" not in logged.uns


def test_unknown_arguments_of_the_cell_cycle_are_refused(logged):
    genes = genes_of(logged)
    with pytest.raises(TypeError, match="does not take ctrl_size"):
        dbx.tl.score_genes_cell_cycle(logged, s_genes=genes, g2m_genes=genes, ctrl_size=3)
