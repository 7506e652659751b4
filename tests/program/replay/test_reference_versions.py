"""A transductive step finds the cells it was fitted on by version, wherever they are, or refuses by name."""

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

import dbx
from dbx.program import ReferenceChangedError
from dbx.program.slots.hashes import name_hashes

N_CELLS, N_GENES = 200, 40


def counts(seed, n_cells=N_CELLS):
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(7).gamma(1.0, 2.0, (3, N_GENES))
    x = rng.poisson(means[rng.integers(0, 3, n_cells)]).astype(np.float32)
    adata = ad.AnnData(sparse.csr_matrix(x))
    adata.obs_names = [f"{seed}_{i}" for i in range(n_cells)]
    return adata


def with_neighbours_of_genes(wrap=sparse.csr_matrix):
    """Neighbours found in log values themselves (few genes: scanpy's default too)."""
    adata = counts(0)
    adata.X = wrap(adata.X.toarray())
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.neighbors(adata, n_neighbors=10)
    return adata


@pytest.fixture
def reference():
    return with_neighbours_of_genes()


@pytest.fixture
def query():
    return counts(1, 30)


def edges(query, reference):
    mapped = query.copy()
    dbx.rerun(mapped, reference, steps=["neighbors"])
    return mapped.obsm["reference_distances"].toarray()


def scaled(adata):
    with pytest.warns(UserWarning, match="densifies") if sparse.issparse(adata.X) else nothing():
        dbx.pp.scale(adata)


def nothing():
    from contextlib import nullcontext

    return nullcontext()


def in_place(adata):
    adata.X = adata.X * 2


@pytest.mark.parametrize("wrap", [sparse.csr_matrix, np.asarray], ids=["csr", "dense"])
@pytest.mark.parametrize("change", [scaled, in_place])
def test_overwritten_expression_is_refused_by_name(query, wrap, change):
    reference = with_neighbours_of_genes(wrap)
    change(reference)
    with pytest.raises(ReferenceChangedError, match=r"'neighbors' keeps its reference cells in reference\.X, but"):
        dbx.rerun(query, reference, steps=["neighbors"])
    assert "dbx" not in query.uns


@pytest.mark.parametrize("place", ["layer", "raw"])
def test_a_copy_of_the_expression_is_found(reference, query, place):
    expected = edges(query, reference)
    if place == "layer":
        reference.layers["log"] = reference.X.copy()
    else:
        reference.raw = reference.copy()
    scaled(reference)
    np.testing.assert_array_equal(edges(query, reference), expected)


def test_a_copy_made_too_late_is_not_taken(reference, query):
    scaled(reference)
    reference.layers["log"] = reference.X.copy()
    with pytest.raises(ReferenceChangedError, match="overwritten"):
        dbx.rerun(query, reference, steps=["neighbors"])


def test_the_version_is_known_from_a_file(reference, query, tmp_path):
    expected = edges(query, reference)
    reference.layers["log"] = reference.X.copy()
    scaled(reference)
    reference.write(tmp_path / "reference.h5ad")
    np.testing.assert_array_equal(edges(query, ad.read_h5ad(tmp_path / "reference.h5ad")), expected)


def test_a_subset_of_the_cells_still_serves_and_a_change_of_it_does_not(reference, query):
    part = reference[:150].copy()
    edges(query, part)
    part.X = part.X * 2
    with pytest.raises(ReferenceChangedError):
        dbx.rerun(query, part, steps=["neighbors"])


def test_lazy_expression_that_a_later_step_wrote_is_refused(query):
    da = pytest.importorskip("dask.array")
    reference = with_neighbours_of_genes(lambda x: da.from_array(x, chunks=(50, N_GENES)))
    edges(query, reference)
    dbx.pp.scale(reference)
    with pytest.raises(ReferenceChangedError, match=r"reference\.X"):
        dbx.rerun(query, reference, steps=["neighbors"])


def test_genes_of_new_cells_are_matched_by_name_where_neighbours_are_of_genes(reference, query):
    expected = edges(query, reference)
    order = np.random.default_rng(0).permutation(N_GENES)
    np.testing.assert_array_equal(edges(query[:, order].copy(), reference), expected)


@pytest.mark.parametrize("key", ["distances", "X_pca"])
def test_graphs_and_embeddings_that_were_overwritten(query, key):
    reference = counts(0)
    dbx.pp.normalize_total(reference)
    dbx.pp.log1p(reference)
    dbx.pp.pca(reference, n_comps=5)
    dbx.pp.neighbors(reference, use_rep="X_pca", n_neighbors=10)
    expected = edges(query, reference)
    container = reference.obsp if key == "distances" else reference.obsm
    before = container[key].copy()
    container[key] = before * 2
    with pytest.raises(ReferenceChangedError, match=key):
        dbx.rerun(query, reference, steps=["neighbors"])
    container["kept"] = before  # the same values under another name
    np.testing.assert_array_equal(edges(query, reference), expected)


def test_an_embedding_kept_as_float64_is_the_same(query):
    """Tables and other tools widen it; what float32 does not hold is another version."""
    reference = counts(0)
    dbx.pp.normalize_total(reference)
    dbx.pp.log1p(reference)
    dbx.pp.pca(reference, n_comps=5)
    dbx.pp.neighbors(reference, use_rep="X_pca", n_neighbors=10)
    expected = edges(query, reference)
    wide = reference.obsm["X_pca"].astype(np.float64)
    reference.obsm["X_pca"] = wide
    np.testing.assert_array_equal(edges(query, reference), expected)
    reference.obsm["X_pca"] = wide * (1 + 1e-12)
    with pytest.raises(ReferenceChangedError, match="X_pca"):
        dbx.rerun(query, reference, steps=["neighbors"])


def test_a_gap_is_not_taken_for_the_version(reference, query):
    expected = edges(query, reference)
    kept = reference.X.copy()
    reference.X = kept * 2
    reference.X = kept  # and put back
    np.testing.assert_array_equal(edges(query, reference), expected)


def test_expression_that_was_changed_after_its_cells_were_renamed_is_refused(reference, query):
    # no sampled cell is found by name, so nothing says that these are the values
    reference.obs_names = [f"renamed {name}" for name in reference.obs_names]
    reference.X = reference.X * 3
    with pytest.raises(ReferenceChangedError, match=r"reference\.X"):
        dbx.rerun(query, reference, steps=["neighbors"])


def test_a_few_cells_of_the_reference_serve_where_none_of_them_was_sampled(query):
    reference = with_neighbours_of_genes()
    sampled = name_hashes(reference.obs_names)
    few = reference[np.sort(np.argsort(sampled)[-20:])].copy()
    assert edges(query, few).shape == (query.n_obs, 20)


def test_a_reference_that_lost_genes_is_named(counts):
    """Not the new cells lack them, and counting them as zero would not help."""
    reference = counts.copy()
    dbx.pp.normalize_total(reference)
    dbx.pp.log1p(reference)
    dbx.pp.neighbors(reference, use_rep="X", n_neighbors=5)
    for missing_genes in ("raise", "zero"):
        with pytest.raises(ReferenceChangedError, match="which had 200 genes.* has lost 50 of them") as error:
            dbx.rerun(counts[:20].copy(), reference[:, 50:].copy(), missing_genes=missing_genes)
        assert "missing_genes" not in str(error.value)
