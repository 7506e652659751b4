"""A value copied from one slot to another is what the step wrote; a value that only looks like it is not."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import dbx
from dbx.program.record.registry import load
from dbx.program.slots.hashes import name_hashes


@pytest.fixture(scope="module")
def _logged(counts):
    adata = counts.copy()
    adata.layers["counts"] = adata.X.copy()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    return adata


@pytest.fixture
def logged(_logged):
    return _logged.copy()


@pytest.fixture(scope="module")
def _reduced(_logged):
    adata = _logged.copy()
    dbx.pp.pca(adata, n_comps=5)
    return adata


@pytest.fixture
def reduced(_reduced):
    return _reduced.copy()


@pytest.fixture
def query(counts):
    query = counts[:40].copy()
    query.obs_names = [f"new {name}" for name in query.obs_names]
    return query


def reads(adata, step):
    """(slot, name of the step that wrote it) of the first input."""
    registry = load(adata)
    entry = next(iter(registry[step].reads.values()))
    source = registry.by_id(entry.source)
    return str(entry.slots[0]), source.name if source else entry.gap


COPIES = {
    "as it is": lambda x: x.copy(),
    "the very same object": lambda x: x,
    "dense": lambda x: x.toarray(),
    "dense in float64": lambda x: x.toarray().astype(np.float64),
    "in columns": lambda x: x.tocsc(),
    "as a sparse array": sparse.csr_array,
    "in float64": lambda x: x.astype(np.float64),
    "in Fortran order": lambda x: np.asfortranarray(x.toarray()),
    "with explicit zeros": lambda x: sparse.csr_matrix(x + 0 * sparse.eye(*x.shape, format="csr")),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_layer_that_is_a_copy_of_x_is_what_the_step_wrote(logged, copied):
    logged.layers["log"] = copied(logged.X)
    dbx.pp.pca(logged, n_comps=5, layer="log")
    assert reads(logged, "pca") == ("X", "log1p")
    assert set(dbx.steps(logged)["status"]) == {"ok"}


OTHERS = {
    "one entry changed": lambda x: _changed(x),
    "a zero filled": lambda x: _changed(x, 0.0),
    "twice as large": lambda x: x * 2,
    "a little larger": lambda x: x * (1 + 1e-5),
    "with cells permuted": lambda x: x[::-1].copy(),
    "with genes permuted": lambda x: x[:, ::-1].copy(),
    "negated": lambda x: -x,
    "clipped": lambda x: sparse.csr_matrix(np.minimum(x.toarray(), 1.5)),
    "rounded to half precision": lambda x: x.toarray().astype(np.float16).astype(np.float32),
    "without its first cell": lambda x: sparse.vstack([x[:1] * 0, x[1:]]).tocsr(),
}


def _changed(x, of=None):
    dense = x.toarray()
    row, column = np.argwhere(dense == 0)[-1] if of is not None else np.argwhere(dense > 0)[-1]
    dense[row, column] += 0.01
    return sparse.csr_matrix(dense)


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_matrix_is_not_taken_for_a_copy(logged, other):
    logged.layers["log"] = other(logged.X)
    dbx.pp.pca(logged, n_comps=5, layer="log")
    assert reads(logged, "pca") == ("layers/log", None)


@pytest.mark.filterwarnings("ignore:zero-centering")
def test_zeros_of_other_values_are_no_evidence(counts):
    """Counts and their logarithms are zero in the same places."""
    adata = counts.copy()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    adata.layers["zero"] = adata.X * 0
    adata = adata[:, 150:].copy()
    dbx.pp.scale(adata, layer="zero")
    assert reads(adata, "scale") == ("layers/zero", None)


def test_a_copy_that_a_step_overwrites_needs_no_counterpart_in_new_cells(logged, query):
    """The usual way to keep log values: scale a layer."""
    logged.layers["scaled"] = logged.X.toarray()
    dbx.pp.scale(logged, layer="scaled", max_value=10)
    dbx.pp.pca(logged, n_comps=5, layer="scaled")
    assert reads(logged, "scale") == ("X", "log1p")
    assert reads(logged, "pca") == ("layers/scaled", "scale")
    log = logged.X.toarray()
    dbx.rerun(query, logged)
    mean, std = log.mean(axis=0), log.std(axis=0, ddof=1)
    expected = np.minimum((log[:40] - mean) / np.where(std == 0, 1, std), 10)
    np.testing.assert_allclose(query.layers["scaled"], expected, atol=1e-4)
    np.testing.assert_allclose(query.obsm["X_pca"], logged.obsm["X_pca"][:40], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(query.X.toarray(), log[:40], rtol=1e-5)


def test_a_notebook_cell_that_copies_and_scales_runs_twice(logged):
    for _ in range(2):
        logged.layers["scaled"] = logged.X.toarray()
        dbx.pp.scale(logged, layer="scaled")
    assert list(dbx.steps(logged).index) == ["normalize_total", "log1p", "scale"]
    assert set(dbx.steps(logged)["status"]) == {"ok"}


@pytest.mark.filterwarnings("ignore:zero-centering")
def test_raw_keeps_what_x_was(logged, query):
    logged.raw = logged
    dbx.pp.highly_variable_genes(logged, n_top_genes=80)
    logged = logged[:, logged.var["highly_variable"]].copy()
    dbx.pp.scale(logged)
    dbx.tl.rank_genes_groups(logged, "group", use_raw=True)
    assert reads(logged, "rank_genes_groups") == ("X", "log1p")
    assert set(dbx.steps(logged)["status"]) == {"ok"}


@pytest.mark.filterwarnings("ignore:zero-centering")
def test_raw_with_more_genes_than_x_feeds_new_cells(logged, query):
    logged.raw = logged
    cut = logged[:, ::2].copy()
    dbx.pp.scale(cut)
    cut.layers["back"] = cut.raw.to_adata()[:, cut.var_names].X
    dbx.pp.pca(cut, n_comps=5, layer="back")
    assert reads(cut, "pca") == ("X", "log1p")
    dbx.rerun(query, cut)
    np.testing.assert_allclose(query.obsm["X_pca"], cut.obsm["X_pca"][:40], rtol=1e-3, atol=1e-3)


def test_x_put_back_from_a_layer_that_a_step_wrote(logged, query):
    logged.layers["scaled"] = logged.X.toarray()
    dbx.pp.scale(logged, layer="scaled")
    logged.X = logged.layers["scaled"].copy()
    dbx.pp.pca(logged, n_comps=5)
    assert reads(logged, "pca") == ("layers/scaled", "scale")
    dbx.rerun(query, logged)
    np.testing.assert_allclose(query.obsm["X_pca"], logged.obsm["X_pca"][:40], rtol=1e-3, atol=1e-3)


EMBEDDED = {
    "copied": lambda adata: adata.obsm["X_pca"].copy(),
    "in float64": lambda adata: adata.obsm["X_pca"].astype(np.float64),
    "as a table": lambda adata: pd.DataFrame(adata.obsm["X_pca"], index=adata.obs_names),
}


@pytest.mark.parametrize("copied", EMBEDDED.values(), ids=EMBEDDED)
def test_an_embedding_under_another_name(reduced, query, copied):
    reduced.obsm["X_two"] = copied(reduced)
    dbx.pp.neighbors(reduced, use_rep="X_two", n_neighbors=10)
    assert reads(reduced, "neighbors") == ("obsm/X_pca", "pca")
    expected = query.copy()
    plain = reduced.copy()
    dbx.pp.neighbors(plain, use_rep="X_pca", n_neighbors=10)
    dbx.rerun(expected, plain)
    dbx.rerun(query, reduced)
    there, here = (adata.obsm["reference_distances"].toarray() for adata in (expected, query))
    np.testing.assert_array_equal(here, there)


PARTS = {
    "its first columns": lambda z: z[:, :3],
    "its columns reversed": lambda z: z[:, ::-1],
    "its cells reversed": lambda z: z[::-1],
    "twice as large": lambda z: z * 2,
    "one number changed": lambda z: z + np.pad([[0.01]], [(0, len(z) - 1), (0, z.shape[1] - 1)]).astype(z.dtype),
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_an_embedding_made_of_another_is_not_a_copy(reduced, part):
    reduced.obsm["X_two"] = part(reduced.obsm["X_pca"]).copy()
    dbx.pp.neighbors(reduced, use_rep="X_two", n_neighbors=10)
    assert reads(reduced, "neighbors") == ("obsm/X_two", None)


def test_subsets_of_cells_and_genes_of_a_copy_are_recognised(logged):
    logged.layers["log"] = logged.X.copy()
    part = logged[10:, ::2].copy()
    dbx.pp.pca(part, n_comps=5, layer="log")
    assert reads(part, "pca") == ("X", "log1p")


def test_the_fitted_cells_are_found_in_the_copy_after_the_original_was_overwritten(reduced, query):
    """Neighbours keep their cells where they were read."""
    reduced.obsm["X_kept"] = reduced.obsm["X_pca"].copy()
    dbx.pp.neighbors(reduced, use_rep="X_kept", n_neighbors=10)
    assert set(load(reduced)["neighbors"].references.values()) >= {"obsm/X_kept"}
    reduced.obsm["X_pca"] = reduced.obsm["X_pca"] * 2
    mapped = dbx.rerun(query, reduced, steps=["neighbors"], copy=True)
    assert mapped.obsm["reference_distances"].shape == (40, 150)
    reduced.obsm["X_kept"] = reduced.obsm["X_pca"]
    with pytest.raises(dbx.program.ReferenceChangedError, match="X_kept"):
        dbx.rerun(query, reduced, steps=["neighbors"])


def test_genes_of_a_layer_that_is_a_copy_keep_their_cells(logged, query):
    logged.layers["log"] = logged.X.copy()
    dbx.pp.scale(logged, zero_center=False)
    few = logged[:, :40].copy()
    few.X = few.layers["log"].copy()
    dbx.pp.neighbors(few, use_rep="X", n_neighbors=10)
    few.X = few.X * 3
    dbx.rerun(query, few, steps=["neighbors"])  # from the layer
    assert query.obsm["reference_distances"].shape == (40, 150)


def test_its_own_cells_get_back_what_is_stored(logged):
    logged.layers["scaled"] = logged.X.toarray()
    dbx.pp.scale(logged, layer="scaled")
    dbx.pp.pca(logged, n_comps=5, layer="scaled")
    stored = logged.obsm["X_pca"].copy()
    logged.obsm["X_pca"] = np.zeros_like(stored)
    dbx.rerun(logged)
    np.testing.assert_array_equal(logged.obsm["X_pca"], stored)
    del logged.layers["counts"]
    with pytest.warns(UserWarning, match="Starting from X as 'log1p' wrote it"):
        dbx.rerun(logged)
    np.testing.assert_array_equal(logged.obsm["X_pca"], stored)


def test_a_gradient_in_the_layer_that_was_copied(logged):
    logged.layers["log"] = logged.X.copy()
    dbx.pp.pca(logged, n_comps=5, layer="log")
    table = dbx.sensitivity(logged, "obsm/X_pca", "layers/log", column=0)
    loadings = pd.Series(logged.varm["PCs"][:, 0], index=logged.var_names)
    np.testing.assert_allclose(table["gradient"], loadings[table["gene"]], rtol=1e-4, atol=1e-6)


def test_counts_under_two_names_are_one_start(counts, query):
    """Genes are chosen by the counts in a layer, and X is normalised: a query has counts once."""
    adata = counts.copy()
    adata.layers["counts"] = adata.X.copy()
    dbx.pp.vae_normalize(adata, layer="counts", max_epochs=1, n_latent=2)
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=5)
    twice = query.copy()
    twice.layers["counts"] = twice.X.copy()
    dbx.rerun(query, adata)
    dbx.rerun(twice, adata)
    np.testing.assert_array_equal(query.obsm["X_vae"], twice.obsm["X_vae"])
    only = query.copy()
    del only.obsm["X_vae"], only.uns["dbx"]
    only.layers["umi"] = counts[:40].X.copy()
    only.X = only.X * 0
    dbx.rerun(only, adata, inputs={"X": "layers/umi"})
    np.testing.assert_array_equal(only.obsm["X_vae"], twice.obsm["X_vae"])


def test_another_layer_is_another_start(counts, query):
    adata = counts.copy()
    adata.layers["other"] = adata.X * 2
    dbx.pp.vae_normalize(adata, layer="other", max_epochs=1, n_latent=2)
    dbx.pp.normalize_total(adata)
    with pytest.raises(ValueError, match=r"lack what the program starts from: adata.layers\['other'\]"):
        dbx.rerun(query, adata)


def test_an_error_names_the_slot_that_was_typed(logged):
    logged.layers["log"] = logged.X.copy()
    with pytest.raises(ValueError, match=r"adata.layers\['log'\] holds log-normalised values"):
        dbx.pp.vae_normalize(logged, layer="log", max_epochs=1)


def test_training_goes_through_a_copy(reduced):
    reduced.obsm["X_two"] = reduced.obsm["X_pca"].copy()
    dbx.tl.harmony(reduced, "batch", adjusted_basis="X_two", basis="X_two")
    assert reads(reduced, "harmony") == ("obsm/X_pca", "pca")
    dbx.optimize(reduced, dbx.losses.CrossEntropy("group", slot="obsm/X_two"), train="pca", max_epochs=2)
    assert "group_predicted" in reduced.obs


def test_an_entry_changed_in_a_cell_that_no_fingerprint_samples(rng, monkeypatch):
    """The original is still there, and every entry is compared."""
    monkeypatch.setattr("dbx.program.slots.fingerprint.SAMPLED_VALUES", 200)
    adata = ad.AnnData(rng.poisson(2.0, (400, 30)).astype(np.float32))
    dbx.pp.log1p(adata)
    row = np.argsort(name_hashes(adata.obs_names))[-1]
    for change, origin in ((0.0, ("X", "log1p")), (0.01, ("layers/log", None))):
        other = adata.copy()
        other.layers["log"] = other.X.copy()
        other.layers["log"][row, 3] += change
        dbx.pp.pca(other, n_comps=2, layer="log")
        assert reads(other, "pca") == origin
