"""Classes that were planted, calibration, settings, new cells and wrong uses."""

import anndata as ad
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats

import dbx
from dbx.program.slots.slots import SlotError

KINDS = ("DE", "DP", "DM", "DB", "EE", "EP", "DZ")
EACH = 12


@pytest.fixture(scope="module")
def cells():
    """160 cells of each condition; 12 genes of each kind, components 4 standard deviations apart."""
    rng = np.random.default_rng(0)
    n, b = 320, np.arange(320) >= 160
    x = np.empty((n, EACH * len(KINDS)))
    for i in range(x.shape[1]):
        kind, u = KINDS[i % len(KINDS)], rng.random(n)
        mean = {
            "DE": 1.2 * b,
            "DP": 4.0 * (u < np.where(b, 0.75, 0.25)),
            "DM": 4.0 * (b & (u < 0.5)),
            "DB": np.where(b, 4.0 * (u < 0.5), 2.0),
            "EP": 4.0 * (u < 0.5),
        }.get(kind, np.zeros(n))
        x[:, i] = 0.25 * (mean + rng.normal(size=n)) + rng.uniform(2, 3)
    zero = rng.random(x.shape) < 0.15
    zero[:, 6::7] |= (rng.random((n, EACH)) < 0.4) & b[:, None]
    x[zero] = 0
    made = ad.AnnData(sparse.csr_matrix(x.astype(np.float32)))
    made.obs["condition"] = pd.Categorical(np.where(b, "stim", "ctrl"))
    made.obs["donor"] = pd.Categorical(rng.integers(0, 3, n).astype(str))
    made.var_names = [f"{KINDS[i % len(KINDS)]}{i // len(KINDS)}" for i in range(x.shape[1])]
    return made


@pytest.fixture(scope="module")
def done(cells):
    return dbx.tl.differential_distribution(cells, "condition", copy=True)


def test_planted_classes(cells, done):
    table = done.varm["differential_distribution"]
    truth = np.array([KINDS[i % len(KINDS)] for i in range(len(table))])
    equal = np.isin(truth, ["EE", "EP"])
    assert (table["padj"][~equal] < 0.05).mean() > 0.97
    assert (table["padj"][equal] < 0.05).mean() < 0.1
    assert (table["category"].astype(str) == truth).mean() > 0.9
    sure = table["probability"] > 0.95
    assert (table["category"].astype(str) == truth)[sure].mean() > 0.9
    np.testing.assert_allclose(table.filter(like="probability_").sum(axis=1), 1, atol=1e-6)
    assert (table["n_components_pooled"][truth == "EP"] == 2).mean() > 0.9
    b = (cells.obs["condition"] == "stim").to_numpy()
    x = cells.X.toarray()
    np.testing.assert_allclose(
        table["zero_difference"], (x[b] == 0).mean(axis=0) - (x[~b] == 0).mean(axis=0), atol=1e-6
    )
    means = [np.nanmean(np.where(x[rows] > 0, x[rows], np.nan), axis=0) for rows in (~b, b)]
    np.testing.assert_allclose(table["mean_difference"], means[1] - means[0], atol=1e-5)
    assert "differential_distribution" not in cells.varm


def test_swapped_groups_and_any_container(cells, done):
    swapped = dbx.tl.differential_distribution(
        cells, "condition", groups=["stim", "ctrl"], max_components=0, copy=True
    ).varm["differential_distribution"]
    table = done.varm["differential_distribution"]
    np.testing.assert_allclose(swapped["pvalue"], table["pvalue"], rtol=1e-6)
    np.testing.assert_allclose(swapped["mean_difference"], -table["mean_difference"], atol=1e-7)
    dense = cells.copy()
    dense.X = dense.X.toarray()
    dbx.tl.differential_distribution(dense, "condition", max_components=0, block_genes=5)
    # components are fitted in float32, until a step gains less than 2e-3 nats
    np.testing.assert_allclose(dense.varm["differential_distribution"]["pvalue"], table["pvalue"], rtol=1e-2)
    assert "differential_distribution" not in dense.obsm


def test_other_tests_and_settings(cells, done):
    def table(**given):
        given = {"max_components": 0, **given}
        return dbx.tl.differential_distribution(cells, "condition", copy=True, **given).varm[
            "differential_distribution"
        ]

    analytic = table(test="energy")["pvalue"]
    permuted = table(test="energy", p_value="permutation", n_perms=200)["pvalue"]
    assert stats.spearmanr(analytic, permuted).statistic > 0.9
    middle = (analytic > 0.05).to_numpy()
    assert np.abs(analytic - permuted)[middle].max() < 0.2  # a gene stops at 100 permutations
    two = table(p_value="permutation", n_perms=200, batch_key="donor")["pvalue"]
    assert stats.spearmanr(two, done.varm["differential_distribution"]["pvalue"]).statistic > 0.9
    assert (two > 0).all()
    far = table(test="wasserstein", p_value="permutation", n_perms=100)["padj"]
    assert (far[::7] < 0.05).mean() > 0.5
    values = table(zeros=False)
    assert (values["pvalue"] == values["pvalue_nonzero"]).all()
    assert (values["padj"][6::7] > 0.05).all()
    plain = table(test="anderson_darling", zeros=False)["pvalue"]
    assert (plain > values["pvalue"])[1::7].mean() > 0.7  # the shares of components differ
    assert (plain > values["pvalue"])[3::7].mean() > 0.9  # the spread differs
    assert values["pvalue_components"][::7].isna().all()
    one = table(test="ks", max_components=1)
    assert one["n_components_pooled"].max() == 1
    loose, shared = table(max_components=3, criterion="aic"), table(max_components=3, shared_variance=True)
    n = done.varm["differential_distribution"]["n_components_pooled"]
    assert loose["n_components_pooled"].sum() > n.sum()
    assert not np.allclose(shared["probability_DM"], done.varm["differential_distribution"]["probability_DM"])


def test_new_cells(cells):
    """They get the probability of each condition; the table is kept, and made anew with refit."""
    rng = np.random.default_rng(1)
    order = rng.permutation(cells.n_obs)
    reference, query = cells[order[:220]].copy(), cells[order[220:]].copy()
    truth = query.obs["condition"].astype(str).to_numpy()
    dbx.tl.differential_distribution(reference, "condition", max_components=2)
    del query.obs["condition"]
    dbx.rerun(query, reference=reference)
    assert "differential_distribution" not in query.varm
    found = np.asarray(query.obsm["differential_distribution"])
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert ((found[:, 1] > 0.5) == (truth == "stim")).mean() > 0.95
    query.obs["condition"] = pd.Categorical(truth)
    dbx.rerun(query, reference=reference, refit=True)
    own = dbx.tl.differential_distribution(cells[order[220:]], "condition", max_components=2, copy=True)
    pd.testing.assert_frame_equal(query.varm["differential_distribution"], own.varm["differential_distribution"])


def test_soft_class_and_its_gradient(cells, done):
    """The class probabilities are those of the table, and their gradient is that of finite differences."""
    from dbx.program.record.registry import load

    operator = next(iter(load(done))).build()
    x = jnp.asarray(cells.X.toarray())
    codes = jnp.asarray(cells.obs["condition"].cat.codes.to_numpy())
    table = done.varm["differential_distribution"].filter(like="probability_").to_numpy()
    known = (done.varm["differential_distribution"]["padj"] < 0.05).to_numpy()
    expected = np.column_stack([table[:, :2].sum(axis=1) + table[:, 6], table[:, 2:6]])
    soft = np.asarray(jax.jit(operator.class_probabilities)(x, codes))
    found = np.column_stack([soft[:, :2].sum(axis=1), soft[:, 2:]])
    assert np.abs(found - expected)[known].max() < 0.05  # float32 log-likelihoods of some hundred nats
    with jax.enable_x64(True):
        from flax import nnx

        graph, state = nnx.split(operator)
        state = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64) if leaf.dtype == jnp.float32 else leaf, state)
        double, values = nnx.merge(graph, state), jnp.asarray(x, jnp.float64)

        @jax.jit
        def score(values):
            return double.class_probabilities(values, codes)[:, 2].sum()

        direction = jnp.asarray(np.random.default_rng(2).normal(size=values.shape)) * (values > 0)
        slope = float((jax.grad(score)(values) * direction).sum())
        step = 1e-6
        numeric = float(score(values + step * direction) - score(values - step * direction)) / (2 * step)
        np.testing.assert_allclose(slope, numeric, rtol=1e-5)


def test_tables(done):
    table = dbx.get.differential_distribution(done, category=["DP", "DM"], padj=0.01)
    assert set(table["category"]) == {"DP", "DM"}
    assert (table["padj"] < 0.01).all()
    assert (table["pvalue"].diff().iloc[1:] >= 0).all()
    best = dbx.get.differential_distribution(done, sort_by="statistic")["statistic"]
    assert (best.diff().iloc[1:] <= 0).all()
    with pytest.raises(ValueError, match="There is no class 'XX'"):
        dbx.get.differential_distribution(done, category="XX")
    with pytest.raises(SlotError, match="differential_distribution first"):
        dbx.get.differential_distribution(done, "other")


def with_third(adata):
    adata.obs["condition"] = adata.obs["condition"].cat.add_categories("x")
    adata.obs.loc[adata.obs_names[:30], "condition"] = "x"


def as_counts(adata):
    adata.X = sparse.csr_matrix(np.rint(np.expm1(adata.X.toarray())))


def scaled(adata):
    adata.X = adata.X.toarray() - 1


def missing(adata):
    adata.X.data[7] = np.nan


def all_zero(adata):
    adata.X = adata.X * 0


def one_only(adata):
    adata.obs["condition"] = pd.Categorical(["ctrl"] * adata.n_obs)


@pytest.mark.parametrize(
    ("change", "given", "match"),
    [
        (with_third, {}, r'groups=\("a", "b"\)'),
        (one_only, {}, "Two groups of cells are compared; got 1"),
        (as_counts, {}, "raw counts"),
        (all_zero, {}, "needs expressed genes"),
        (scaled, {}, "negative"),
        (missing, {}, "NaN"),
        (None, {"min_cells": 200}, "fewer than min_cells=200"),
        (None, {"groups": ["ctrl", "other"]}, "no group 'other'"),
        (None, {"groups": ["ctrl"]}, "Two groups of cells are compared; got 1"),
        (None, {"test": "wasserstein"}, 'p_value="permutation"'),
        (None, {"batch_key": "donor"}, 'p_value="permutation"'),
        (None, {"batch_key": "condition", "p_value": "permutation"}, "No batch has cells of both groups"),
        (None, {"test": "t"}, "test must be one of"),
        (None, {"criterion": "icl"}, "criterion"),
        (None, {"n_perms": 5}, "n_perms"),
        (None, {"max_components": -1}, "max_components"),
    ],
)
def test_wrong_uses(cells, change, given, match):
    adata = cells.copy()
    if change is not None:
        change(adata)
    with pytest.raises(ValueError, match=match):
        dbx.tl.differential_distribution(adata, "condition", **given)
    assert dict(adata.uns) == {}
    assert not list(adata.varm)


def test_a_fit_on_other_cells_is_that_of_these_cells_alone(cells):
    reference, query = cells[:, :20].copy(), cells[::2, :20].copy()
    dbx.tl.differential_distribution(reference, "condition", max_components=2)
    alone = query.copy()
    dbx.tl.differential_distribution(alone, "condition", max_components=2)
    dbx.rerun(query, reference, refit=True)
    pd.testing.assert_frame_equal(query.varm["differential_distribution"], alone.varm["differential_distribution"])


def test_genes_without_values(cells):
    """A gene that no cell expresses is not tested; one that few express is tested by its zeros alone."""
    adata = cells.copy()
    x = adata.X.toarray()
    x[:, 0] = 0
    x[:, 1] = 0
    x[:6, 1] = 1.5
    adata.X = x
    dbx.tl.differential_distribution(adata, "condition", max_components=2)
    table = adata.varm["differential_distribution"]
    assert np.isnan(table["pvalue"].iloc[0])
    assert table["category"].iloc[0] == "NC"
    assert np.isnan(table["pvalue_nonzero"].iloc[1])
    assert table["pvalue"].iloc[1] == table["pvalue_zero"].iloc[1]
    assert np.isfinite(np.asarray(adata.obsm["differential_distribution"])).all()
