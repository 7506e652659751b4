"""What new cells hold that are not counts: recognised by what a step writes, or refused in words."""

import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

import dbx
from dbx.program.replay.own_cells import SAMPLED
from dbx.program.replay.undoing import sample_of
from dbx.program.slots.slots import Slot


def recorded(adata, *, target_sum=None, scale=False, max_value=None, base=None, layer=None, **settings):
    dbx.pp.normalize_total(adata, target_sum=target_sum, layer=layer, **settings)
    dbx.pp.log1p(adata, base=base, layer=layer)
    if scale:
        dbx.pp.scale(adata, max_value=max_value, layer=layer)
    dbx.pp.pca(adata, n_comps=4, layer=layer)
    return adata


@pytest.fixture(scope="module")
def reference(counts):
    return recorded(counts.copy())


def fresh(counts, n=40):
    query = counts[:n].copy()
    query.obs_names = [f"new{i}" for i in range(n)]
    return query


def depth(x):
    return float(np.median(np.asarray(x.sum(axis=1))))


def logged(query, total, base=None):
    sc.pp.normalize_total(query, target_sum=total)
    sc.pp.log1p(query, base=base)


def assert_as_from_counts(query, counts, reference, words, **settings):
    expected = fresh(counts)
    dbx.rerun(expected, reference)
    with pytest.warns(UserWarning, match=words):
        dbx.rerun(query, reference, **settings)
    np.testing.assert_allclose(query.obsm["X_pca"], expected.obsm["X_pca"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "kind", [sparse.csr_matrix, sparse.csc_matrix, lambda x: x.toarray(), lambda x: x.astype("f8")]
)
def test_logs_of_the_reference_s_total_are_recognised(counts, reference, kind):
    query = fresh(counts)
    logged(query, depth(counts.X))
    query.X = kind(query.X)
    words = r"adata.X does not hold raw counts but what step 'log1p' writes \(each cell sums to .* \(start='log1p'\)"
    assert_as_from_counts(query, counts, reference, words)


def test_normalised_values_are_recognised(counts, reference):
    query = fresh(counts)
    sc.pp.normalize_total(query, target_sum=depth(counts.X))
    assert_as_from_counts(query, counts, reference, "what step 'normalize_total' writes")


@pytest.mark.parametrize("base", [2, 10])
def test_the_base_is_the_reference_s(counts, base):
    reference = recorded(counts.copy(), target_sum=1e4, base=base)
    query = fresh(counts)
    logged(query, 1e4, base)
    assert_as_from_counts(query, counts, reference, "what step 'log1p' writes")
    query = fresh(counts)
    logged(query, 1e4)
    with pytest.raises(ValueError, match=f"base=None, but the reference has base={base}"):
        dbx.rerun(query, reference)


@pytest.mark.parametrize("max_value", [None, 2.0])
@pytest.mark.filterwarnings("ignore:zero-centering")
def test_scaled_values_are_recognised_by_the_reference_s_means(counts, max_value):
    reference = recorded(counts.copy(), scale=True, max_value=max_value)
    logs = fresh(counts)
    logged(logs, depth(counts.X))
    query = logs.copy()
    z = (logs.X.toarray() - reference.var["mean"].to_numpy()) / reference.var["std"].to_numpy()
    query.X = z.astype(np.float32) if max_value is None else np.clip(z, -max_value, max_value).astype(np.float32)
    if max_value is not None:  # no cell is without a clipped value: its total cannot be known
        with pytest.raises(ValueError, match=r"cannot be checked.*start='scale'"):
            dbx.rerun(query.copy(), reference)
        dbx.rerun(query, reference, start="scale")
        return
    assert_as_from_counts(query, counts, reference, "what step 'scale' writes")
    assert_as_from_counts(logs, counts, reference, "what step 'log1p' writes")
    query = fresh(counts)
    logged(query, depth(counts.X))
    query.X = (query.X - query.X.mean(axis=0)) / (query.X.toarray().std(axis=0) + 1)
    with pytest.raises(ValueError, match="looks like scaled values, but not as a step of the program writes them"):
        dbx.rerun(query, reference)


def test_logs_of_counts_are_recognised_by_whole_numbers(counts):
    reference = counts.copy()
    dbx.pp.log1p(reference)
    dbx.pp.pca(reference, n_comps=3)
    query = fresh(counts)
    sc.pp.log1p(query)
    assert_as_from_counts(query, counts, reference, r"what step 'log1p' writes \(whole numbers before it\)")
    logged(query := fresh(counts), 1e4)
    with pytest.raises(ValueError, match="but not as a step of the program writes them"):
        dbx.rerun(query, reference)


@pytest.mark.filterwarnings("ignore:Some cells have zero counts")
def test_totals_without_the_highly_expressed_genes(counts):
    reference = recorded(counts.copy(), target_sum=1e4, exclude_highly_expressed=True, max_fraction=0.2)
    kept = reference.uns["dbx"]["state"]["normalize_total"]["kept"]
    assert 0 < kept.sum() < len(kept)
    query = fresh(counts)
    factors = query.X[:, kept].sum(axis=1) / 1e4
    query.X = sparse.csr_matrix(query.X / factors)
    sc.pp.log1p(query)
    assert_as_from_counts(query, counts, reference, "what step 'log1p' writes")


def test_a_program_on_a_layer(counts):
    reference = counts.copy()
    reference.layers["n"] = reference.X.copy()
    recorded(reference, target_sum=1e4, layer="n")
    expected = fresh(counts)
    expected.layers["n"] = expected.X.copy()
    dbx.rerun(expected, reference)
    query = fresh(counts)
    query.layers["n"] = query.X.copy()
    query.X = query.X * 0.5
    sc.pp.normalize_total(query, target_sum=1e4, layer="n")
    sc.pp.log1p(query, layer="n")
    with pytest.warns(UserWarning, match=r"adata.layers\['n'\] does not hold raw counts but what step 'log1p' writes"):
        dbx.rerun(query, reference)
    np.testing.assert_allclose(query.obsm["X_pca"], expected.obsm["X_pca"], rtol=1e-3, atol=1e-4)


def twice(query, total):
    logged(query, total)
    query.X = np.log1p(query.X)


def unnormalised(query, total):
    sc.pp.log1p(query)


def of_another_base(query, total):
    logged(query, total, base=2)


def per_million(query, total):
    logged(query, 1e6)


def normalised_only(query, total):
    sc.pp.normalize_total(query, target_sum=1e6)


def corrected(query, total):
    query.X = query.X * 0.7


REFUSED = {
    twice: "what is left when step 'log1p' runs twice",
    unnormalised: "what step 'log1p' writes without step 'normalize_total' before it",
    of_another_base: "what step 'log1p' writes with base=2, but the reference has base=None",
    per_million: r"each sum to 1e\+06 where step 'normalize_total' of the reference gives each a total of [0-9.]+",
    normalised_only: r"each sum to 1e\+06 where step 'normalize_total'",
    corrected: "not as a step of the program writes them: step 'normalize_total' .* total of",
}


@pytest.mark.parametrize("wrong", REFUSED, ids=lambda function: function.__name__)
@pytest.mark.parametrize("dense", [False, True])
def test_another_scale_is_refused_by_what_it_looks_like(counts, reference, wrong, dense):
    query = fresh(counts)
    wrong(query, depth(counts.X))
    query.X = query.X.toarray() if dense else query.X
    before = query.X.copy()
    words = rf"'normalize_total' needs raw counts, but adata.X has fractional values.*looks like.*{REFUSED[wrong]}"
    with pytest.raises(ValueError, match=words):
        dbx.rerun(query, reference)
    assert not query.obsm
    assert "dbx" not in query.uns
    assert not abs(before - query.X).max()


def test_totals_that_cannot_be_checked_are_asked_about(counts, reference):
    query = fresh(counts)
    logged(query, depth(counts.X))
    with pytest.raises(ValueError, match=r"only 100 of the 200 genes of 'normalize_total'.*pass start='log1p'"):
        dbx.rerun(query[:, 100:].copy(), reference)


def test_totals_over_more_genes_than_the_program_has(counts, reference):
    import anndata as ad

    extra = sparse.csr_matrix(np.ones((40, 50), np.float32))
    query = ad.AnnData(sparse.hstack([counts.X[:40], extra], format="csr"))
    query.var_names = [*counts.var_names, *(f"other{i}" for i in range(50))]
    logged(query, depth(counts.X))
    with pytest.raises(ValueError, match=r"over all their genes, where those of the reference do over the genes of"):
        dbx.rerun(query, reference)
    with pytest.warns(UserWarning, match="over all their genes"):
        dbx.rerun(query, reference, start="log1p")


def test_trained_totals_cannot_be_checked(counts):
    import jax.numpy as jnp

    from dbx.ops.normalization.normalize_total import NormalizeTotal

    operator = NormalizeTotal(target_sum=10.0)
    operator.fit(x=dbx.data.RowBlocks(counts.X))
    ones = np.ones((2, counts.n_vars))
    assert operator.counted_totals(ones)[1] == 10.0
    operator.power[...] = jnp.asarray(0.9)
    assert operator.counted_totals(ones) is None


def test_what_no_step_reads_is_not_looked_at(counts, reference):
    query = fresh(counts)
    query.X = query.X * 0.7
    query.obsm["X_pca"] = np.zeros((40, 4), np.float32)
    with pytest.raises(ValueError, match="needs raw counts"):
        dbx.rerun(query, reference)
    nan = fresh(counts)
    x = nan.X.toarray()
    x[3, 4] = np.nan
    nan.X = x
    with pytest.raises(ValueError, match="contains 1 NaN"):
        dbx.rerun(nan, reference)


def test_only_some_cells_are_looked_at():
    import anndata as ad

    whole = ad.AnnData(sparse.random(5_000, 30, density=0.2, format="csr", dtype=np.float32))
    assert sample_of(whole, Slot("X")).values.shape == (SAMPLED, 30)


class TestCountsBeside:
    """Counts in a layer or in raw, where X of new cells holds something else."""

    @pytest.mark.parametrize("state", [per_million, of_another_base, normalised_only])
    @pytest.mark.parametrize("place", ["layers/counts", "layers/umi", "raw/X"])
    def test_they_are_used(self, counts, reference, state, place):
        query = fresh(counts)
        if place == "raw/X":
            query.raw = query.copy()
        else:
            query.layers[place.split("/")[1]] = query.X.copy()
        state(query, 1.0)
        words = rf"adata.X does not hold raw counts, but .* does.*inputs={{\"X\": \"{place}\"}}"
        assert_as_from_counts(query, counts, reference, words)

    def test_beside_scaled_values(self, counts, reference):
        query = fresh(counts)
        query.layers["counts"] = query.X.copy()
        logged(query, 1e4)
        query.X = query.X.toarray() - query.X.toarray().mean(axis=0)
        assert_as_from_counts(query, counts, reference, "does not hold raw counts, but")

    def test_counts_of_something_else_are_not(self, counts, reference):
        query = fresh(counts)
        half = query.X.copy()
        half.data = np.floor(half.data / 2)
        query.layers["spliced"] = half
        per_million(query, 1.0)
        with pytest.raises(ValueError, match=r"each sum to 1e\+06"):
            dbx.rerun(query, reference)
        query.layers["counts"] = counts[:40].X.copy()
        assert_as_from_counts(query, counts, reference, r"adata.layers\['counts'\] does")

    def test_the_user_s_word_comes_first(self, counts, reference, recwarn):
        query = fresh(counts)
        query.layers["counts"] = query.X.copy()
        per_million(query, 1.0)
        dbx.rerun(query, reference, inputs={"X": "layers/counts"})
        assert not [warning for warning in recwarn if "raw counts" in str(warning.message)]


def test_logs_are_recognised_by_an_adopted_program(counts):
    reference, raw = counts[:100].copy(), counts[100:].copy()
    for part in (reference, logged := raw.copy()):
        sc.pp.normalize_total(part, target_sum=1e4)
        sc.pp.log1p(part)
    sc.pp.pca(reference, n_comps=4)
    dbx.adopt(reference)
    with pytest.warns(UserWarning, match="but what step 'log1p' writes"):
        dbx.rerun(logged, reference)
    dbx.rerun(raw, reference)
    np.testing.assert_allclose(logged.obsm["X_pca"], raw.obsm["X_pca"], atol=1e-4)
