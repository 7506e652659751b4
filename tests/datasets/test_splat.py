"""What `simulate` can be told to add: outliers, a trend of the variation, nesting, shares, dropout."""

import anndata as ad
import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import expit

from dbx.datasets import simulate


def factors(adata, name: str) -> np.ndarray:
    """Factors of the groups of a column, an array of shape (n_groups, n_genes)."""
    return adata.var[[f"factor_{one}" for one in adata.obs[name].cat.categories]].to_numpy().T


def test_outliers():
    """Share, size over the median of the gamma means (Kolmogorov-Smirnov), and the other genes as they were."""
    settings = {"mean_shape": 0.8, "mean_rate": 0.5}
    var = simulate(
        5, 4000, 2, 2, seed=2, outlier_probability=0.1, outlier_location=3.0, outlier_scale=0.4, **settings
    ).var
    without = simulate(5, 4000, 2, 2, seed=2, **settings).var
    outlier = var["outlier_factor"] != 1
    assert stats.binomtest(int(outlier.sum()), 4000, 0.1).pvalue > 1e-4
    ratio = var["mean"][outlier] / without["mean"].median()
    np.testing.assert_allclose(ratio, var["outlier_factor"][outlier], rtol=1e-12)
    assert stats.kstest(np.log(ratio), stats.norm(3.0, 0.4).cdf).pvalue > 1e-4
    unaffected = without.columns.difference(["mean", "outlier_factor"])
    assert var[unaffected].equals(without[unaffected])
    assert var["mean"][~outlier].equals(without["mean"][~outlier])


@pytest.mark.parametrize(("dispersion", "trend"), [(0.09, 0.7), (0.0, 0.5), (0.25, 0.0)])
def test_variation_follows_the_trend(dispersion, trend):
    """At one mean per gene: scipy's negative binomial with Splatter's coefficient, chi-squared over frequent counts."""
    settings = {"dispersion": dispersion, "dispersion_df": 8, "bcv_trend": trend, "de_probability": 0}
    adata = simulate(30_000, 3, 1, 1, seed=3, mean_shape=3, library_scale=0, library_size=9, **settings)
    means = 9 * adata.var["mean"] / adata.var["mean"].sum()
    # either column tells the gene's own chi-squared draw
    own = adata.var["dispersion"] / dispersion if dispersion else (adata.var["bcv_trend"] / trend) ** 2
    assert own.nunique() == 3
    sizes = 1 / ((np.sqrt(dispersion) + trend / np.sqrt(means)) ** 2 * own)
    for x, mean, size in zip(adata.X.toarray().T.astype(int), means, sizes, strict=True):
        counts = np.bincount(x)
        told = stats.nbinom.pmf(np.arange(len(counts)), size, size / (size + mean)) * adata.n_obs
        frequent = told > 20
        assert frequent.sum() > 5
        chi2 = ((counts - told)[frequent] ** 2 / told[frequent]).sum()
        assert stats.chi2.sf(chi2, frequent.sum()) > 1e-4


def test_a_gene_without_expression_has_no_counts():
    x = simulate(500, 20, 1, 1, mean_shape=0.001, bcv_trend=1.0, dropout_mid=0.0).X
    assert np.isfinite(x.data).all()
    assert x.nnz > 0


def test_factors_go_down_as_often_as_asked():
    var = simulate(5, 6000, 2, 1, de_probability=0.5, de_location=0.1, de_scale=0.4, de_down=0.25).var
    log_factor = np.log(var["factor_group_1"])
    n_down, n_changed = int((log_factor < 0).sum()), int((log_factor != 0).sum())
    assert stats.binomtest(n_down, n_changed, 0.25).pvalue > 1e-4
    sizes = log_factor[log_factor != 0].abs()
    assert stats.kstest(sizes, stats.foldnorm(0.1 / 0.4, scale=0.4).cdf).pvalue > 1e-4
    assert (np.log(simulate(5, 500, 2, 1, de_location=0.0, de_down=0).var["factor_group_2"]) >= 0).all()


def test_factors_move_smoothly_with_their_location():
    """At a half, a coin turns the log factor over: 0.1 more is 0.1 up or down, also where the size passes zero."""
    near, far = (simulate(5, 500, 1, 1, de_probability=1, de_location=at).var["factor_group_1"] for at in (0.1, 0.2))
    np.testing.assert_allclose(np.abs(np.log(near / far)), 0.1, rtol=1e-9)


def test_shares():
    obs = simulate(20_000, 5, 3, 2, group_shares=[6, 3, 1], batch_shares=(0.25, 0.75)).obs
    assert stats.chisquare(obs["group"].value_counts(sort=False), [12_000, 6000, 2000]).pvalue > 1e-4
    assert stats.chisquare(obs["batch"].value_counts(sort=False), [5000, 15_000]).pvalue > 1e-4
    table = obs.groupby(["group", "batch"], observed=True).size().unstack()
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_groups_fall_evenly_into_lineages_level_by_level():
    obs = simulate(5000, 5, 59, 1, nested=(3, 8)).obs
    of = {name: obs.groupby("group", observed=True)[name].unique() for name in ("level_1", "level_2")}
    assert all(len(found) == 1 for name in of for found in of[name])
    assert sorted(of["level_2"].str[0].value_counts()) == [7] * 5 + [8] * 3
    above = obs.groupby("level_2", observed=True)["level_1"].unique()
    assert all(len(found) == 1 for found in above)
    assert sorted(above.str[0].value_counts()) == [2, 3, 3]


def test_a_type_has_the_factors_of_its_lineage_and_its_own():
    """Nothing but the factors changes with nesting; log factors vary as p (location^2 + scale^2) at each level."""
    settings = {"de_probability": (0.3, 0.2), "de_location": (1.2, 0.5), "de_scale": (0.4, 0.3)}
    adata = simulate(50, 4000, 20, 2, seed=4, nested=5, **settings)
    flat = simulate(50, 4000, 20, 2, seed=4, de_probability=0.2, de_location=0.5, de_scale=0.3)
    lineage = np.arange(20) // 4
    np.testing.assert_allclose(factors(adata, "group"), factors(adata, "level_1")[lineage] * factors(flat, "group"))
    assert adata.obs[["group", "batch", "library_size"]].equals(flat.obs[["group", "batch", "library_size"]])
    assert adata.var["mean"].equals(flat.var["mean"])
    np.testing.assert_array_equal(factors(adata, "batch"), factors(flat, "batch"))
    for log_factor, told in [
        (np.log(factors(adata, "level_1")), 0.3 * (1.2**2 + 0.4**2)),
        (np.log(factors(flat, "group")), 0.2 * (0.5**2 + 0.3**2)),
    ]:
        assert log_factor.var() == pytest.approx(told, rel=0.05)  # 20,000 and 80,000 draws: below 1.5% by chance


def test_types_of_one_lineage_are_nearer():
    """Of profiles from the counts alone: the expected squared log ratio is 2 T within a lineage, 2 T + 2 L across."""
    settings = {"de_probability": (0.3, 0.3), "de_location": (1.0, 0.5), "de_scale": 0.2, "library_size": 20_000}
    adata = simulate(2400, 1000, 12, 1, seed=5, nested=4, dispersion=0.05, mean_shape=5, **settings)
    codes = adata.obs["group"].cat.codes.to_numpy()
    log_profiles = np.log([adata.X[codes == code].sum(axis=0).A1 for code in range(12)])
    log_profiles -= np.median(log_profiles, axis=1, keepdims=True)
    apart = ((log_profiles[:, None] - log_profiles) ** 2).mean(axis=2)
    same = np.arange(12)[:, None] // 3 == np.arange(12) // 3
    of_type, of_lineage = 0.3 * (0.5**2 + 0.2**2), 0.3 * (1.0**2 + 0.2**2)
    assert apart[same & ~np.eye(12, dtype=bool)].mean() == pytest.approx(2 * of_type, rel=0.1)
    assert apart[~same].mean() == pytest.approx(2 * (of_type + of_lineage), rel=0.1)
    assert apart[same].max() < apart[~same].min()


def test_what_is_switched_on_leaves_the_counts_before_it():
    without, adata = simulate(600, 50, 2, 2), simulate(600, 50, 2, 2, dropout_mid=-1.0)
    assert (adata.layers["true_counts"] != without.X).nnz == 0
    assert adata.obs.equals(without.obs)
    lost = adata.layers["true_counts"] != adata.X
    assert lost.nnz > 0
    assert (adata.X[lost.nonzero()] == 0).all()
    assert (adata.X.data >= 1).all()
    assert not without.layers


def test_dropout_is_the_logistic_of_the_log_mean():
    """Without scatter, the share that a gene at one mean loses is the curve itself: low where counts are high."""
    settings = {"dispersion": 0, "de_probability": 0, "library_scale": 0, "library_size": 200, "mean_shape": 1.0}
    adata = simulate(8000, 60, 1, 1, seed=6, dropout_mid=1.0, dropout_shape=-1.5, **settings)
    mean = 200 * adata.var["mean"] / adata.var["mean"].sum()
    had, has = (adata.layers["true_counts"] > 0).sum(axis=0).A1, (adata.X > 0).sum(axis=0).A1
    told = 1 / (1 + np.exp(1.5 * (np.log(mean.to_numpy()) - 1.0)))
    seen = had > 100
    assert seen.sum() > 50
    z = (had - has - had * told)[seen] / np.sqrt(had * told * (1 - told))[seen]
    assert np.abs(z).max() < 5
    assert (z**2).sum() < stats.chi2.isf(1e-4, seen.sum())
    assert told.min() < 0.2 < 0.8 < told.max()


def test_dropout_follows_the_means_that_the_cells_have():
    """With scatter, by a cell's own mean, as in Splatter: what is left to expect is an integral over a gamma."""
    adata = simulate(
        40_000, 1, 1, 1, dispersion=0.8, dispersion_df=np.inf, library_scale=0, library_size=3.0, dropout_mid=0.5
    )
    own = stats.gamma(1 / 0.8, scale=3.0 * 0.8)
    told = integrate.quad(lambda x: own.pdf(x) * x * expit(np.log(x) - 0.5), 0, np.inf)[0]
    counts = adata.X.toarray()
    assert abs(counts.mean() - told) < 5 * counts.std() / np.sqrt(adata.n_obs)
    # and the curve at the expected mean would be something else
    assert abs(counts.mean() - 3.0 * expit(np.log(3.0) - 0.5)) > 10 * counts.std() / np.sqrt(adata.n_obs)


def test_settings_are_stored(tmp_path):
    adata = simulate(30, 10, 4, 1, nested=2, group_shares=[1, 2, 3, 4], de_location=(1, 0.5), dropout_mid=0.0)
    adata.write_h5ad(tmp_path / "nested.h5ad")
    stored = ad.read_h5ad(tmp_path / "nested.h5ad").uns["simulate"]
    again = simulate(**stored)
    assert (again.X != adata.X).nnz == 0
    assert again.var.equals(adata.var)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_groups": 0}, "n_groups must be a whole number of at least 1; got 0"),
        ({"n_cells": 10.5}, "n_cells must be a whole number .*; got 10.5"),
        ({"seed": -1}, "seed must be a whole number of at least 0; got -1"),
        ({"de_probability": 2}, "de_probability must be between 0 and 1; got 2"),
        ({"outlier_probability": -0.1}, "outlier_probability must be between 0 and 1; got -0.1"),
        ({"outlier_probability": [0.1, 0.2]}, r"outlier_probability must be one number; got \[0.1, 0.2\]"),
        ({"mean_rate": 0}, "mean_rate must be a number above 0; got 0"),
        ({"library_size": np.nan}, "library_size must be a number above 0; got nan"),
        ({"dispersion": -1}, "dispersion must be at least 0; got -1"),
        ({"dispersion": "high"}, "dispersion must be at least 0; got 'high'"),
        ({"dispersion_df": 0}, "dispersion_df must be a number above 0, or infinity .*; got 0"),
        ({"dropout_mid": 0.0, "dropout_shape": 1}, "dropout_shape must be below 0, .* low means .*; got 1"),
        ({"dropout_mid": np.inf}, "dropout_mid must be a finite number, the logarithm .*; got inf"),
        ({"nested": 5}, r"such as n_groups=59, nested=8; got nested=\[5\], n_groups=4"),
        ({"nested": (3, 2)}, "coarsest level first"),
        ({"nested": 2.5}, "number in nested must be a whole number .*; got 2.5"),
        ({"nested": 0}, "number in nested must be .* at least 1; got 0"),
        ({"nested": 2, "de_scale": (1, 2, 3)}, r"de_scale must be one number or one for each of 2 level\(s\); got 3"),
        ({"group_shares": [1, 2]}, r"group_shares must have one number for each group, n_groups=4; got 2"),
        ({"batch_shares": [1, -1]}, r"batch_shares must be numbers of at least 0, .*; got \[1, -1\]"),
        ({"batch_shares": [0, 0]}, "not all 0"),
    ],
)
def test_what_cannot_be_simulated_is_said(settings, words):
    with pytest.raises(ValueError, match=words):
        simulate(**({"n_cells": 10, "n_genes": 10, "n_groups": 4, "n_batches": 2} | settings))
