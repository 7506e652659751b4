"""Differential expression through the wrapper: what is written, from which input, and what is refused."""

import warnings

import anndata as ad
import dask.array as da
import mudata as md
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import sparse

import dbx
from dbx.program.registry import load

COLUMNS = ["baseMean", "log2FoldChange", "lfcSE", "stat", "pvalue", "padj"]


@pytest.fixture(scope="module")
def samples():
    """Twenty-four bulk-like samples, sixty genes, a third of them changed fourfold by the treatment."""
    rng = np.random.default_rng(0)
    n, genes = 24, 60
    treated, batch = np.arange(n) % 2, np.arange(n) // 2 % 2
    effect = np.where(np.arange(genes) < 20, np.log(4) * np.where(np.arange(genes) % 2, 1, -1), 0)
    mu = (
        rng.lognormal(0, 0.3, (n, 1))
        * rng.gamma(2, 60, genes)
        * np.exp(treated[:, None] * effect + 0.4 * batch[:, None])
    )
    counts = rng.negative_binomial(10, 10 / (10 + mu)).astype(np.float32)
    obs = pd.DataFrame(
        {
            "treatment": pd.Categorical(np.where(treated, "drug", "none"), categories=["none", "drug"]),
            "batch": np.where(batch, "b2", "b1"),
            "age": rng.normal(50, 9, n),
            "empty": pd.Series([np.nan] * n, dtype=float),
            "single": "k",
        }
    )
    obs["twin"] = obs["batch"].map({"b1": "p", "b2": "q"})
    obs.index = [f"s{i}" for i in range(n)]
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(genes)]))


@pytest.fixture(scope="module")
def tested(samples):
    return dbx.tl.de(samples, "~ batch + treatment", contrast=("treatment", "drug", "none"), copy=True)


def test_what_is_written(samples, tested):
    table = tested.varm["de"]
    assert list(table.columns) == COLUMNS
    assert table.index.equals(tested.var_names)
    assert "de" not in samples.varm
    params = tested.uns["de"]["params"]
    assert params["design"] == "~ batch + treatment"
    assert list(params["contrast"]) == ["treatment", "drug", "none"]
    np.testing.assert_allclose(
        table["baseMean"],
        (samples.X.toarray() / tested.obs["size_factors"].to_numpy()[:, None]).mean(axis=0),
        rtol=1e-10,
    )


def test_truth_is_found(tested):
    table = tested.varm["de"]
    changed = np.arange(60) < 20
    assert (table["padj"] < 0.1)[changed].all()
    assert (table["padj"] < 0.1)[~changed].mean() < 0.15
    # twelve against twelve at a dispersion of 0.1: errors of about 0.2 in log2
    expected = np.where(np.arange(20) % 2, 2, -2) * 1.0
    np.testing.assert_allclose(table["log2FoldChange"][:20], expected, atol=0.8)


def test_a_gene_is_statsmodels_regression(samples, tested):
    second, drug = samples.obs["batch"] == "b2", samples.obs["treatment"] == "drug"
    design = np.column_stack([np.ones(24), second, drug]).astype(float)
    dispersion = next(iter(load(tested))).arrays["dispersion"][1]
    for g in (0, 7, 30):
        family = sm.families.NegativeBinomial(alpha=dispersion[g])
        offset = np.log(tested.obs["size_factors"].to_numpy())
        fit = sm.GLM(samples.X[:, [g]].toarray()[:, 0], design, family=family, offset=offset).fit(tol=1e-14)
        row = tested.varm["de"].iloc[g]
        np.testing.assert_allclose(row["log2FoldChange"], fit.params[2] / np.log(2), rtol=1e-6)
        np.testing.assert_allclose(row["lfcSE"], fit.bse[2] / np.log(2), rtol=1e-6)
        np.testing.assert_allclose(row["pvalue"], fit.pvalues[2], rtol=1e-5)


KINDS = {
    "dense": lambda x: x.toarray(),
    "csc": sparse.csc_matrix,
    "int": lambda x: x.astype(np.int64),
    "dask": lambda x: da.from_array(x.toarray(), chunks=(10, 60)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_array_gives_the_same(samples, tested, kind):
    adata = samples.copy()
    adata.X = KINDS[kind](adata.X)
    dbx.tl.de(adata, "~ batch + treatment", contrast=("treatment", "drug", "none"))
    np.testing.assert_allclose(adata.varm["de"], tested.varm["de"], rtol=1e-9)


def test_backed_data_are_read(samples, tested, tmp_path):
    adata = samples.copy()
    adata.obs = adata.obs.drop(columns="empty")
    adata.write(tmp_path / "x.h5ad")
    backed = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    backed.obs["treatment"] = backed.obs["treatment"].cat.reorder_categories(["none", "drug"])
    dbx.tl.de(backed, "~ batch + treatment")
    np.testing.assert_allclose(backed.varm["de"], tested.varm["de"], rtol=1e-9)


def test_layers_keys_and_given_size_factors(samples, tested):
    adata = samples.copy()
    adata.layers["counts"] = adata.X.copy()
    adata.X.data = np.log1p(adata.X.data)
    adata.obs["depth"] = 2 * tested.obs["size_factors"]
    dbx.tl.de(adata, "~ batch + treatment", layer="counts", size_factors="depth", key_added="mine")
    assert "de" not in adata.varm
    mine, de = adata.varm["mine"], tested.varm["de"]
    np.testing.assert_allclose(mine["baseMean"], de["baseMean"] / 2, rtol=1e-9)
    # the dispersions' starting values are not free of scale, and the means they are fitted at follow from them
    np.testing.assert_allclose(mine["log2FoldChange"], de["log2FoldChange"], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(adata.obs["size_factors"], adata.obs["depth"])


def test_poscounts_are_another_choice(samples, tested):
    adata = samples.copy()
    adata.X = sparse.csr_matrix(np.where(np.random.default_rng(0).random(adata.shape) < 0.2, 0, adata.X.toarray()))
    dbx.tl.de(adata, "~ batch + treatment", size_factors="poscounts")
    np.testing.assert_allclose(np.log(adata.obs["size_factors"]).mean(), 0, atol=1e-12)


def test_contrasts_by_name_turned_round_and_by_default(samples, tested):
    named = dbx.tl.de(samples, "~ batch + treatment", contrast="treatment[T.drug]", copy=True).varm["de"]
    last = dbx.tl.de(samples, "~ batch + treatment", copy=True).varm["de"]
    turned = dbx.tl.de(samples, "~ batch + treatment", contrast=("treatment", "none", "drug"), copy=True).varm["de"]
    np.testing.assert_array_equal(named, tested.varm["de"])
    np.testing.assert_array_equal(last, tested.varm["de"])
    np.testing.assert_allclose(turned["log2FoldChange"], -tested.varm["de"]["log2FoldChange"], rtol=1e-12)
    np.testing.assert_allclose(turned["padj"], tested.varm["de"]["padj"], rtol=1e-12)


def test_covariates_count(samples, tested):
    adjusted = dbx.tl.de(samples, "~ age + batch + treatment", copy=True).varm["de"]
    assert not np.allclose(adjusted["log2FoldChange"], tested.varm["de"]["log2FoldChange"], rtol=1e-3)


def test_it_travels_and_is_fitted_again_alike(samples, tested, tmp_path):
    adata = tested.copy()
    adata.obs = adata.obs.drop(columns="empty")
    adata.write(tmp_path / "x.h5ad")
    back = ad.read_h5ad(tmp_path / "x.h5ad")
    pd.testing.assert_frame_equal(dbx.get.de(back), dbx.get.de(adata), check_dtype=False)
    assert list(dbx.steps(back).index) == ["de"]
    dbx.rerun(back, refit=True)
    np.testing.assert_allclose(back.varm["de"], adata.varm["de"], rtol=1e-9)


def test_new_samples_get_size_factors_and_no_test(samples, tested):
    query = samples[:6].copy()
    dbx.rerun(query, reference=tested)
    assert "de" not in query.varm
    np.testing.assert_allclose(query.obs["size_factors"], tested.obs["size_factors"][:6], rtol=1e-12)


def test_modality(samples, tested):
    mdata = md.MuData({"rna": samples.copy()})
    dbx.tl.de(mdata, "~ batch + treatment", mod="rna")
    np.testing.assert_array_equal(mdata["rna"].varm["de"], tested.varm["de"])


def test_cells_are_no_replicates(samples):
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"line": np.where(np.arange(120) % 2, "a", "b")}, index=[str(i) for i in range(120)])
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(3, (120, 8)).astype(np.float32)), obs=obs)
    with pytest.warns(UserWarning, match="not replicates"):
        dbx.tl.de(adata, "~ line", size_factors="poscounts")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dbx.tl.de(samples.copy(), "~ batch + treatment")


def test_the_message_counts_at_alpha(samples, tested, capsys):
    table = tested.varm["de"]
    for alpha in (0.1, 1e-6):
        with dbx.settings.override(verbosity="hint", progress=False):
            dbx.tl.de(samples.copy(), "~ batch + treatment", alpha=alpha)
        called = table["padj"] < alpha
        assert (
            f"{called.sum()} of 60 genes have padj < {alpha}: {(called & (table['stat'] > 0)).sum()} up"
            in capsys.readouterr().err
        )


@pytest.mark.parametrize(
    ("design", "given", "error", "words"),
    [
        ("~ nope", {}, KeyError, "obs.*nope.*missing"),
        ("~ empty", {}, ValueError, "'empty'.*24 missing values"),
        ("~ single", {}, ValueError, "'single' has the one level 'k'"),
        ("~ batch + twin", {}, ValueError, r"'twin\[T.q\]' follows from 'batch\[T.b2\]'"),
        ("~ treatment", {"contrast": ("treatment", "drug", "x")}, ValueError, "no level 'x'; it has 'none', 'drug'"),
        ("~ treatment", {"contrast": "dose"}, ValueError, "no coefficient 'dose'"),
        ("~ treatment", {"layer": "log"}, ValueError, "raw counts.*fractional"),
        ("~ treatment", {"layer": "negative"}, ValueError, "negative"),
        ("~ treatment", {"layer": "nan"}, ValueError, "NaN"),
        ("~ treatment", {"layer": "holes"}, ValueError, 'size_factors="poscounts"'),
        ("~ treatment", {"size_factors": "nope"}, KeyError, "nope"),
        ("~ treatment", {"size_factors": "batch"}, ValueError, "positive numbers"),
        ("~ treatment", {"alpha": 5}, ValueError, "alpha=5"),
        ("treated ~ batch", {}, ValueError, "left side"),
    ],
)  # fmt: skip
def test_wrong_input_is_explained_and_leaves_the_data(samples, design, given, error, words):
    adata = samples.copy()
    x = adata.X.toarray()
    for name, layer in {"log": np.log1p(x), "negative": -x, "holes": x * (1 - np.eye(24, 60))}.items():
        adata.layers[name] = layer
    adata.layers["holes"][:, 24:] = 0
    adata.layers["nan"] = x.copy()
    adata.layers["nan"][3, 4] = np.nan
    with pytest.raises(error, match=words):
        dbx.tl.de(adata, design, **given)
    assert not adata.varm
    assert not adata.uns
    assert "size_factors" not in adata.obs
