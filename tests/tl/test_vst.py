"""Variance-stabilising transformation through the wrapper: R's numbers, new samples, and what is refused.

The whole of it is within 4e-10 of R DESeq2's ``varianceStabilizingTransformation`` on airway, which stays out of here.
"""

import warnings

import anndata as ad
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from deseq2_reference import deseq2
from scipy import sparse

import dbx
from dbx.ops.de.dispersion.trend import fit_trend
from dbx.ops.de.variance_stabilizing import stabilised, stabilising_curve
from dbx.ops.de.vst import VST
from dbx.ops.operator import Constant
from dbx.program.record.registry import load
from dbx.program.slots.slots import SlotError
from dbx.tl.vst import vst


def samples(name):
    reference = deseq2(name)
    return ad.AnnData(
        sparse.csr_matrix(reference.counts.T.astype(np.float32)),
        obs=reference.columns.set_axis(reference.columns.index.astype(str)),
        var=pd.DataFrame(index=[f"g{i}" for i in range(len(reference.counts))]),
    )


def learnt(adata, name):
    return next(iter(load(adata))).arrays[name][1]


@pytest.fixture(scope="module")
def adata():
    return samples("nb_6v6")


@pytest.fixture(scope="module")
def transformed(adata):
    return vst(adata, "~ batch + age + condition", blind=False, copy=True)


def test_values_follow_from_rs_trend(adata, transformed):
    reference = deseq2("nb_6v6")
    asymptotic, extra = reference.meta["trend_coefs"].values()
    q = reference.counts.T / reference.size_factors[:, None]
    root = np.sqrt(asymptotic * q * (1 + extra + asymptotic * q))
    expected = np.log2((1 + extra + 2 * asymptotic * q + 2 * root) / (4 * asymptotic))
    values = transformed.layers["vst"]
    # what the trend is good to after dispersions of our own
    np.testing.assert_allclose(values, expected, rtol=1e-8)
    assert values.dtype == np.float64
    assert "vst" not in adata.layers
    assert sparse.issparse(transformed.X)


def test_blind_takes_differences_between_conditions_as_dispersion():
    rng = np.random.default_rng(1)
    mean = rng.lognormal(5, 1, 800) * np.exp(np.outer(np.arange(12) % 2, rng.normal(0, 1, 800)))
    obs = pd.DataFrame({"side": pd.Categorical(np.array(["a", "b"])[np.arange(12) % 2])}, index=map(str, range(12)))
    counts = ad.AnnData(rng.negative_binomial(20, 20 / (20 + mean)).astype(np.float32), obs=obs)
    informed = vst(counts, "~ side", blind=False, fit_type="mean", copy=True)
    blind = vst(counts, fit_type="mean", copy=True)
    # the curve of a common dispersion has it as its only number
    assert learnt(informed, "curve") == pytest.approx(0.05, rel=0.15)
    assert learnt(blind, "curve") > 0.2


@pytest.mark.parametrize("fit_type", ["parametric", "local", "mean"])
def test_variance_hardly_depends_on_the_mean(fit_type):
    rng = np.random.default_rng(0)
    mean = np.geomspace(20, 5000, 600)
    alpha = np.full(600, 0.05) if fit_type == "mean" else 0.03 + 3 / mean
    counts = rng.negative_binomial(1 / alpha, 1 / (1 + alpha * mean), (40, 600)).astype(np.float32)
    values = vst(ad.AnnData(counts), fit_type=fit_type, copy=True).layers["vst"]
    thirds = [values[:, part].var(axis=0, ddof=1).mean() for part in np.array_split(np.arange(600), 3)]
    # 200 genes of 39 degrees of freedom: two standard errors are 3%; where mean and trend change fast, 10%
    np.testing.assert_allclose(thirds, np.mean(thirds), rtol=0.12)
    logs = np.log2(counts + 1)
    assert logs[:, :200].var(axis=0).mean() > 1.5 * logs[:, 400:].var(axis=0).mean() or fit_type == "mean"


@pytest.mark.parametrize("fit_type", ["parametric", "local", "mean"])
def test_new_samples_are_brought_to_the_stored_scale(adata, fit_type):
    old, new = adata[:9].copy(), adata[9:].copy()
    vst(old, fit_type=fit_type)
    dbx.rerun(new, reference=old)
    counts, references = deseq2("nb_6v6").counts.T[9:], learnt(old, "reference")
    ratios = np.log(np.where(counts > 0, counts, np.nan)) - references
    factors = np.exp(np.nanmedian(ratios, axis=1))
    expected = stabilised(counts, factors, learnt(old, "curve"))
    np.testing.assert_allclose(new.layers["vst"], expected, rtol=1e-12)
    # a sample with counts three times as deep is the same sample
    deeper = adata[9:].copy()
    deeper.X = deeper.X * 3
    dbx.rerun(deeper, reference=old)
    np.testing.assert_allclose(deeper.layers["vst"], new.layers["vst"], rtol=1e-12)


def test_samples_of_the_fit_come_out_as_they_were(transformed):
    again = transformed.copy()
    del again.layers["vst"]
    dbx.rerun(again)
    np.testing.assert_array_equal(again.layers["vst"], transformed.layers["vst"])


def test_new_samples_need_no_columns_of_the_design(adata, transformed):
    new = adata[:4].copy()
    new.obs = new.obs[[]]
    dbx.rerun(new, reference=transformed)
    np.testing.assert_allclose(new.layers["vst"], transformed.layers["vst"][:4], rtol=1e-12)


def test_gradients_are_finite(transformed):
    operator = VST()
    with jax.enable_x64(True):
        operator.curve = Constant(jnp.asarray(learnt(transformed, "curve")))
        operator.reference = Constant(jnp.asarray(learnt(transformed, "reference")))
        counts = jnp.asarray(transformed.X.toarray(), jnp.float64)
        gradient = np.asarray(jax.grad(lambda x: operator(x)["transformed"].mean())(counts))
    assert (np.asarray(counts) == 0).any()
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient) > 0).mean() > 0.99


def test_a_trend_that_does_not_fit_is_said():
    with pytest.warns(UserWarning, match="local regression was taken"):
        found = vst(samples("outlier_4v4"), "~ condition", blind=False, copy=True)
    local = vst(samples("outlier_4v4"), "~ condition", blind=False, fit_type="local", copy=True)
    np.testing.assert_array_equal(found.layers["vst"], local.layers["vst"])
    reference = deseq2("outlier_4v4")
    table, scaled = reference.results, reference.counts / reference.size_factors
    trend, _ = fit_trend("local", table["baseMean"].to_numpy(), table["dispGeneEst"].to_numpy())
    curve = stabilising_curve(trend, reference.size_factors, scaled.mean(axis=1), scaled.max())
    np.testing.assert_allclose(learnt(local, "curve"), curve, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("fit_type", ["parametric", "local", "mean"])
def test_a_trend_that_fits_needs_no_words(adata, fit_type):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        vst(adata.copy(), fit_type=fit_type)


def test_layer_key_and_size_factors(adata):
    other = adata.copy()
    other.layers["counts"] = other.X.copy()
    other.X = other.X.multiply(0.37).tocsr()
    vst(other, layer="counts", key_added="stable", size_factors="poscounts")
    values = other.layers["stable"]
    assert "vst" not in other.layers
    ratio = vst(adata, copy=True).layers["vst"]
    assert 1e-4 < np.abs(values - ratio).max() < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"design": "~ condition"}, "pass blind=False"),
        ({"blind": False}, "blind=False needs a design"),
        ({"size_factors": "iterate"}, "size_factors must be one of 'ratio', 'poscounts'.*; got 'iterate'"),
        ({"fit_type": "loess"}, "fit_type must be one of 'parametric', 'local', 'mean'; got 'loess'"),
        ({"design": "~ sex", "blind": False}, "sex"),
    ],
)
def test_wrong_arguments_in_words(adata, arguments, message):
    given = adata.copy()
    with pytest.raises((ValueError, SlotError), match=message):
        vst(given, **arguments)
    assert "vst" not in given.layers
    assert "dbx" not in given.uns


def test_wrong_data_in_words(adata):
    logs = adata.copy()
    logs.X = logs.X.log1p()
    with pytest.raises(ValueError, match="counts"):
        vst(logs)
    flat = ad.AnnData(np.full((6, 50), 30, np.float32))
    with pytest.raises(ValueError, match="No gene varies more than Poisson"):
        vst(flat)
