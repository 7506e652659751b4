"""Steps that change X in the file of backed data: as in memory, or not at all."""

import anndata as ad
import h5py
import mudata as md
import numpy as np
import pytest
from scipy import sparse

import dbx
from dbx.ops import NormalizeTotal

pytestmark = pytest.mark.filterwarnings("ignore:Some cells have zero counts", "ignore:From 0.4:FutureWarning")

CHANGES = {
    "normalize_total": lambda a: dbx.pp.normalize_total(a, key_added="depth"),
    "normalize_total without some genes": lambda a: dbx.pp.normalize_total(
        a, exclude_highly_expressed=True, max_fraction=0.6
    ),
    "log1p": lambda a: dbx.pp.log1p(a),
    "log1p in pieces": lambda a: dbx.pp.log1p(a, chunked=True, chunk_size=7),
    "sqrt": lambda a: dbx.pp.sqrt(a),
}
KINDS = {"dense": np.asarray, "csr": sparse.csr_matrix}


@pytest.fixture
def counts(rng):
    x = rng.poisson(1.0, (60, 12)).astype(np.float32)
    x[3, 2], x[5] = 90, 0
    return x


def in_file(x, path, mode="r+", **how):
    ad.AnnData(x).write_h5ad(path, **how)
    return ad.read_h5ad(path, backed=mode)


def dense(x):
    return x.toarray() if sparse.issparse(x) else np.asarray(x)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("kind", KINDS)
def test_the_file_holds_what_memory_would(counts, tmp_path, monkeypatch, kind, dtype, change):
    monkeypatch.setattr("dbx.program.record.rewriting.block_rows", lambda *_: 16)
    x = KINDS[kind](counts.astype(dtype))
    adata, expected = in_file(x, tmp_path / "x.h5ad", compression="gzip"), ad.AnnData(x.copy())
    change(adata)
    change(expected)
    assert adata.isbacked
    assert adata.X.dtype == expected.X.dtype
    np.testing.assert_array_equal(dense(adata.X[:]), dense(expected.X))
    assert adata.obs.equals(expected.obs)
    assert (
        dbx.steps(adata)
        .drop(columns="when", errors="ignore")
        .equals(dbx.steps(expected).drop(columns="when", errors="ignore"))
    )
    adata.write()
    again = ad.read_h5ad(tmp_path / "x.h5ad")
    np.testing.assert_array_equal(dense(again.X), dense(expected.X))
    assert list(dbx.steps(again).index) == list(dbx.steps(expected).index)
    with h5py.File(tmp_path / "x.h5ad") as file:
        values = file["X/data"] if kind == "csr" else file["X"]
        assert values.compression == "gzip"
        assert {"dbx_new_values"}.isdisjoint({*file, *(file["X"] if kind == "csr" else ())})


@pytest.mark.parametrize("kind", KINDS)
def test_an_interruption_changes_nothing(counts, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("dbx.program.record.rewriting.block_rows", lambda *_: 16)
    adata = in_file(KINDS[kind](counts), tmp_path / "x.h5ad")
    calls = []
    compute = NormalizeTotal.__call__

    def interrupted(self, x):
        calls.append(x)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(self, x)

    monkeypatch.setattr(NormalizeTotal, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dbx.pp.normalize_total(adata, key_added="depth")
    assert len(calls) == 3
    np.testing.assert_array_equal(dense(adata.X[:]), counts)
    assert not adata.uns
    assert "depth" not in adata.obs
    monkeypatch.undo()
    dbx.pp.normalize_total(adata, target_sum=7)
    totals = dense(adata.X[:]).sum(axis=1)
    np.testing.assert_allclose(totals[totals > 0], 7, rtol=1e-6)


def test_what_the_file_cannot_take_is_refused_in_words(counts, tmp_path):
    reading = in_file(sparse.csr_matrix(counts), tmp_path / "r.h5ad", "r")
    with pytest.raises(NotImplementedError, match=r"open for reading.*or a copy of it.*backed='r\+'.*to_memory"):
        dbx.pp.normalize_total(reading)
    by_genes = in_file(sparse.csc_matrix(counts), tmp_path / "csc.h5ad")
    with pytest.raises(NotImplementedError, match=r"stored by genes \(CSC\).*to_memory"):
        dbx.pp.normalize_total(by_genes)
    twice = sparse.csr_matrix(counts)
    twice.indices[1] = twice.indices[0]
    doubled = in_file(twice, tmp_path / "twice.h5ad")
    for change in (dbx.pp.normalize_total, dbx.pp.log1p):
        with pytest.raises(NotImplementedError, match=r"several values in one place.*to_memory"):
            change(doubled)
    for adata, x in ((reading, counts), (by_genes, counts), (doubled, twice.toarray())):
        np.testing.assert_array_equal(dense(adata.X[:]), x)
        assert not adata.uns


def test_unsorted_rows_stay_where_they_are(counts, tmp_path):
    x = sparse.csr_matrix(counts)
    for start, stop in zip(x.indptr[:-1], x.indptr[1:], strict=True):
        for values in (x.data, x.indices):
            values[start:stop] = values[start:stop][::-1].copy()
    x.has_sorted_indices = False
    adata, expected = in_file(x.copy(), tmp_path / "x.h5ad"), ad.AnnData(sparse.csr_matrix(counts))
    for data in (adata, expected):
        dbx.pp.normalize_total(data, target_sum=10)
        dbx.pp.log1p(data)
    np.testing.assert_array_equal(adata.X[:].toarray(), expected.X.toarray())


def test_a_modality(counts, tmp_path):
    md.MuData({"rna": ad.AnnData(sparse.csr_matrix(counts))}).write(tmp_path / "x.h5mu")
    mdata = md.read_h5mu(tmp_path / "x.h5mu", backed="r+")
    dbx.pp.normalize_total(mdata, mod="rna", target_sum=5)
    expected = ad.AnnData(sparse.csr_matrix(counts))
    dbx.pp.normalize_total(expected, target_sum=5)
    np.testing.assert_array_equal(mdata["rna"].X[:].toarray(), expected.X.toarray())


def test_a_workflow_on_disk_is_that_in_memory(tmp_path):
    adata = dbx.datasets.simulate(300, 60, 3, 2, seed=1, filename=tmp_path / "x.h5ad")
    expected = dbx.datasets.simulate(300, 60, 3, 2, seed=1)
    for data in (adata, expected):
        dbx.pp.normalize_total(data, target_sum=1e3)
        dbx.pp.log1p(data)
        dbx.pp.highly_variable_genes(data, n_top_genes=30)
        dbx.pp.pca(data, n_comps=5)
        dbx.tl.rank_genes_groups(data, "group", method="wilcoxon")
        dbx.tl.score_genes(data, list(data.var_names[:5]), ctrl_size=10)
    np.testing.assert_array_equal(adata.obsm["X_pca"], expected.obsm["X_pca"])
    np.testing.assert_array_equal(adata.var["dispersions_norm"], expected.var["dispersions_norm"])
    np.testing.assert_array_equal(adata.obs["score"], expected.obs["score"])
    for name in ("scores", "pvals"):
        np.testing.assert_array_equal(adata.uns["rank_genes_groups"][name], expected.uns["rank_genes_groups"][name])
    query = dbx.datasets.simulate(40, 60, 3, 2, seed=1)
    twin = query.copy()
    dbx.rerun(query, adata, steps=["pca"])
    dbx.rerun(twin, expected, steps=["pca"])
    np.testing.assert_array_equal(query.obsm["X_pca"], twin.obsm["X_pca"])
