"""Rankings of genes against the installed scanpy, number by number."""

import warnings

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import dbx
from dbx.ops.differential.rank_genes_groups import chosen_groups
from dbx.ops.values import Codes


@pytest.fixture(scope="module")
def logged(counts):
    """Log-normalised float64: scanpy 1.11 squares float32 values in float32 for its variances."""
    adata = counts.copy()
    adata.X = adata.X.astype(np.float64)
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    rng = np.random.default_rng(0)
    adata.obs["kind"] = pd.Categorical(rng.choice(["a", "b", "c", "d"], adata.n_obs, p=[0.4, 0.3, 0.2, 0.1]))
    adata.X[adata.obs["kind"].to_numpy() == "a", 7] = 0
    return adata


CASES = {
    "t-test": {},
    "overestim": {"method": "t-test_overestim_var"},
    "wilcoxon": {"method": "wilcoxon"},
    "ties": {"method": "wilcoxon", "tie_correct": True, "pts": True},
    "some": {"method": "wilcoxon", "groups": ["c", "a"], "n_genes": 30},
    "reference": {"reference": "b", "pts": True},
    "reference_ties": {"method": "wilcoxon", "tie_correct": True, "reference": "b"},
    "some_reference": {"method": "wilcoxon", "groups": ["c", "a"], "reference": "b", "corr_method": "bonferroni"},
    "absolute": {"rankby_abs": True, "n_genes": 50, "pts": True},
    "logreg": {"method": "logreg", "max_iter": 200},
    "logreg_two": {"method": "logreg", "groups": ["c", "a"], "C": 0.1, "n_genes": 20},
    "logreg_three": {"method": "logreg", "groups": ["c", "a", "d"], "max_iter": 50},
    "mask": {"method": "wilcoxon", "mask_var": "some"},
    "key": {"key_added": "mine"},
}


@pytest.mark.parametrize("name", CASES)
def test_the_tables_are_scanpys(logged, name):
    given = {"groupby": "kind", **CASES[name]}
    ours, theirs = logged.copy(), logged.copy()
    for adata in (ours, theirs):
        adata.var["some"] = np.arange(adata.n_vars) % 3 > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sklearn, about convergence and penalties
        dbx.tl.rank_genes_groups(ours, **given)
        sc.tl.rank_genes_groups(theirs, **given)
    key = given.get("key_added", "rank_genes_groups")
    assert_same_tables(ours.uns[key], theirs.uns[key])


def assert_same_tables(a, b):
    assert set(a) == set(b)
    assert a["params"] == b["params"]
    assert a["names"].dtype.names == b["names"].dtype.names
    for group in b["names"].dtype.names:
        assert_same_order(a["names"][group], b["names"][group], b["scores"][group])
    for table in set(b) - {"params", "names", "pts", "pts_rest"}:
        assert type(a[table]) is type(b[table])
        assert a[table].dtype == b[table].dtype
        # scores and fold changes are float32; p-values agree to 1e-6 where they are not denormal
        rtol = 1e-6 if table.startswith("p") else 1e-5
        for group in b[table].dtype.names:
            one, two = (pd.Series(found[table][group], found["names"][group]) for found in (a, b))
            two = two[two.index.isin(one.index)]
            np.testing.assert_allclose(one[two.index], two, rtol=rtol, atol=1e-300, err_msg=table)
    for share in {"pts", "pts_rest"} & set(b):
        tested = list(a[share].columns)
        assert list(b[share].columns) == tested
        # scanpy 1.11 leaves the reference group's share at zero
        columns = [g for g in tested if g in b["names"].dtype.names]
        np.testing.assert_allclose(a[share][columns], b[share][columns], rtol=1e-12)
        assert list(a[share].index) == list(b[share].index)


def assert_same_order(ours, theirs, scores):
    """The same genes at the same places, but for genes whose scores differ by rounding alone.

    All genes seen in a single cell of a group, for one, have the same t: how scanpy's version rounds orders them.
    """
    tied = np.isclose(scores[1:], scores[:-1], rtol=3e-7, atol=0)
    settled = ~(np.append(tied, True) | np.append(True, tied))
    np.testing.assert_array_equal(ours[settled], theirs[settled])
    assert settled.sum() > len(scores) / 3


@pytest.mark.parametrize("wrap", [sparse.csr_matrix, sparse.csc_matrix, np.asarray], ids=["csr", "csc", "dense"])
def test_float32_wilcoxon_is_exact_in_every_kind(logged, wrap):
    """Rank sums are half integers: nothing is rounded before the square root."""
    ours, theirs = logged.copy(), logged.copy()
    x = logged.X.toarray().astype(np.float32)
    ours.X, theirs.X = wrap(x), sparse.csr_matrix(x, dtype=np.float64)  # numba has compiled scanpy's ranks for these
    for adata, tool in ((ours, dbx), (theirs, sc)):
        tool.tl.rank_genes_groups(adata, "kind", method="wilcoxon", tie_correct=True)
    a, b = ours.uns["rank_genes_groups"], theirs.uns["rank_genes_groups"]
    for group in b["names"].dtype.names:
        np.testing.assert_array_equal(a["names"][group], b["names"][group])
        np.testing.assert_array_equal(a["scores"][group], b["scores"][group])
        np.testing.assert_allclose(a["pvals"][group], b["pvals"][group], rtol=1e-13)


def test_backed_data_are_read(logged, tmp_path):
    adata = logged.copy()
    adata.uns.pop("dbx", None)
    adata.write(tmp_path / "x.h5ad")
    backed = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    dbx.tl.rank_genes_groups(backed, "kind", method="wilcoxon")
    dbx.tl.rank_genes_groups(adata, "kind", method="wilcoxon")
    assert_same_tables(backed.uns["rank_genes_groups"], adata.uns["rank_genes_groups"])


def test_raw_is_taken_if_there_and_no_layer_is_named(logged):
    adata = logged.copy()
    adata.raw = logged
    adata.X = sparse.csr_matrix(np.random.default_rng(0).random(adata.shape))
    adata.layers["log"] = logged.X
    theirs = adata.copy()
    dbx.tl.rank_genes_groups(adata, "kind")
    sc.tl.rank_genes_groups(theirs, "kind")
    assert_same_tables(adata.uns["rank_genes_groups"], theirs.uns["rank_genes_groups"])
    by_raw = adata.uns["rank_genes_groups"]
    dbx.tl.rank_genes_groups(adata, "kind", layer="log")
    np.testing.assert_array_equal(by_raw["scores"]["a"], adata.uns["rank_genes_groups"]["scores"]["a"])
    assert adata.uns["rank_genes_groups"]["params"]["use_raw"] is False
    dbx.tl.rank_genes_groups(adata, "kind", use_raw=False)
    assert not np.array_equal(by_raw["scores"]["a"], adata.uns["rank_genes_groups"]["scores"]["a"])


def test_cells_without_a_label_count_among_the_others(logged):
    ours, theirs = logged.copy(), logged.copy()
    for adata in (ours, theirs):
        adata.obs.loc[adata.obs_names[::7], "kind"] = np.nan
    for method in ("wilcoxon", "t-test"):
        dbx.tl.rank_genes_groups(ours, "kind", method=method)
        sc.tl.rank_genes_groups(theirs, "kind", method=method)
        assert_same_tables(ours.uns["rank_genes_groups"], theirs.uns["rank_genes_groups"])


def test_the_base_of_the_logarithm_is_heeded(logged):
    ours, theirs = logged.copy(), logged.copy()
    for adata in (ours, theirs):
        adata.X.data /= np.log(2)
        adata.uns["log1p"] = {"base": 2}
    dbx.tl.rank_genes_groups(ours, "kind")
    sc.tl.rank_genes_groups(theirs, "kind")
    assert_same_tables(ours.uns["rank_genes_groups"], theirs.uns["rank_genes_groups"])


def test_fold_changes_of_means_of_values(logged):
    adata = logged.copy()
    dbx.tl.rank_genes_groups(adata, "kind", method="wilcoxon", mean_in_log_space=False)
    values, member = np.expm1(adata.X.toarray()), adata.obs["kind"].to_numpy() == "b"
    expected = np.log2((values[member].mean(axis=0) + 1e-9) / (values[~member].mean(axis=0) + 1e-9))
    table = dbx.get.rank_genes_groups(adata, "b").set_index("names").loc[adata.var_names]
    np.testing.assert_allclose(table["logfoldchanges"], expected, rtol=1e-5, atol=1e-6)


def test_tables_of_an_earlier_call_do_not_stay(logged):
    adata = logged.copy()
    dbx.tl.rank_genes_groups(adata, "kind", pts=True)
    dbx.tl.rank_genes_groups(adata, "kind", method="logreg", groups=["a", "b"])
    assert set(adata.uns["rank_genes_groups"]) == {"params", "names", "scores"}


def test_it_is_recorded_and_fitted_again_alike(logged):
    adata = logged.copy()
    dbx.tl.rank_genes_groups(adata, "kind", pts=True, groups=["b", "c"])
    before = adata.uns["rank_genes_groups"]
    adata.uns["rank_genes_groups"] = {"names": 0}
    dbx.rerun(adata, refit=True)
    assert_same_tables(adata.uns["rank_genes_groups"], before)
    assert list(dbx.steps(adata).index) == ["rank_genes_groups"]


def test_results_travel_with_the_data(logged, tmp_path):
    adata = logged.copy()
    dbx.tl.rank_genes_groups(adata, "kind", pts=True)
    adata.write(tmp_path / "x.h5ad")
    back = ad.read_h5ad(tmp_path / "x.h5ad")
    pd.testing.assert_frame_equal(
        dbx.get.rank_genes_groups(back), dbx.get.rank_genes_groups(adata), check_dtype=False, check_categorical=False
    )


def test_copy_and_modality(logged):
    copy = dbx.tl.rank_genes_groups(logged, "kind", copy=True)
    assert "rank_genes_groups" in copy.uns
    assert "rank_genes_groups" not in logged.uns
    mdata = md.MuData({"rna": logged.copy()})
    dbx.tl.rank_genes_groups(mdata, "kind", mod="rna")
    found = mdata["rna"].uns["rank_genes_groups"]
    np.testing.assert_array_equal(found["names"]["a"], copy.uns["rank_genes_groups"]["names"]["a"])


def test_raw_counts_are_warned_of(counts):
    adata = counts.copy()
    adata.obs["kind"] = pd.Categorical(np.where(np.arange(adata.n_obs) % 2, "a", "b"))
    with pytest.warns(UserWarning, match="raw counts"):
        dbx.tl.rank_genes_groups(adata, "kind")


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"groups": ["a", "x"]}, ValueError, "no group 'x'; there are 'a', 'b', 'c', 'd'"),
        ({"reference": "x"}, ValueError, "no group 'x'"),
        ({"groups": "a"}, ValueError, r"groups=\['a'\]"),
        ({"groups": 1}, ValueError, r"groups=\['1'\]"),
        ({"groups": np.int64(1)}, ValueError, r"groups=\['1'\]"),
        ({"method": "anova"}, ValueError, "method must be one of .*'wilcoxon'.*; got 'anova'"),
        ({"corr_method": "holm"}, ValueError, "corr_method must be one of .*; got 'holm'"),
        ({"use_raw": True}, ValueError, "adata.raw is empty"),
        ({"layer": "log", "use_raw": True}, ValueError, "adata.raw is empty|not several"),
        ({"layer": "nope"}, KeyError, "layers.*nope.*missing"),
        ({"max_iter": 5}, TypeError, "'t-test' takes no 'max_iter'"),
        ({"method": "logreg", "groups": ["a"]}, ValueError, "two groups or more"),
        ({"groupby": "nope"}, KeyError, "obs.*nope.*missing"),
        ({"groupby": "rare"}, ValueError, "'only' has a single cell"),
    ],
)
def test_wrong_input_is_explained_and_leaves_the_data(logged, given, error, words):
    adata = logged.copy()
    adata.obs["rare"] = pd.Categorical(["only", *["many"] * (adata.n_obs - 1)])
    before = list(adata.uns)
    with pytest.raises(error, match=words):
        dbx.tl.rank_genes_groups(adata, **{"groupby": "kind", **given})
    assert list(adata.uns) == before


@pytest.mark.parametrize(("n_groups", "n_alone"), [(60, 60), (40, 5), (5, 2)])
def test_long_lists_of_groups_are_shortened(n_groups, n_alone):
    """Groups of one cell, as where a barcode is taken for a cluster; the others have two."""
    numbers = [f"g{i}" for i in range(n_groups) for _ in range(1 if i < n_alone else 2)]
    labels = Codes(np.array([int(name[1:]) for name in numbers], np.int32), tuple(dict.fromkeys(numbers)))
    with pytest.raises(ValueError, match=f"{n_alone} groups, 'g0'.* have a single cell") as error:
        chosen_groups(None, "rest", labels)
    assert len(str(error.value)) < 300
    assert ("48 more" in str(error.value)) is (n_alone == 60)
    assert ("groups=" in str(error.value)) is (n_alone < n_groups)
    with pytest.raises(ValueError, match="no group 'x'; there are 'g0'") as error:
        chosen_groups(("x",), "rest", labels)
    assert (f"and {n_groups - 12} more" in str(error.value)) is (n_groups > 12)


def test_nan_is_found(logged):
    adata = logged.copy()
    adata.X.data[5] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        dbx.tl.rank_genes_groups(adata, "kind")


def test_regression_of_sparse_values_keeps_to_one_thread(logged, monkeypatch):
    """Threads for the optimiser's short vectors took most of the processor time; scanpy's numbers to the bit."""
    import sklearn.linear_model
    from threadpoolctl import threadpool_info

    threads = []

    class Noting(sklearn.linear_model.LogisticRegression):
        def fit(self, x, y):
            threads.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
            return super().fit(x, y)

    ours, theirs = logged.copy(), logged.copy()
    with monkeypatch.context() as patch:
        patch.setattr(sklearn.linear_model, "LogisticRegression", Noting)
        dbx.tl.rank_genes_groups(ours, "kind", method="logreg")
    assert set(threads) == {1}
    sc.tl.rank_genes_groups(theirs, "kind", method="logreg")
    for group in theirs.uns["rank_genes_groups"]["scores"].dtype.names:
        a, b = (adata.uns["rank_genes_groups"]["scores"][group] for adata in (ours, theirs))
        np.testing.assert_array_equal(a, b)
