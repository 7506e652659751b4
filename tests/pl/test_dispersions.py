"""The plot of dispersions: estimates, trend, final values and outliers are those of the fit."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from dbx.pl.dispersions import dispersions


def points(ax, label):
    return next(np.asarray(c.get_offsets()) for c in ax.collections if c.get_label().endswith(label))


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_dispersions_lie_where_the_fit_says(outliers):
    ax = dispersions(outliers, show=False)
    fit = outliers.varm["de_fit"]
    fit = fit[(fit["baseMean"] > 0) & fit["dispGeneEst"].notna()].sort_values("baseMean")
    low, high = ax.get_ylim()
    inside = (fit["dispGeneEst"] >= low) & (fit["dispGeneEst"] <= high)

    def sorted_rows(rows):
        return rows[np.lexsort((rows[:, 1], rows[:, 0]))]

    for label, rows, column in (
        ("gene-wise", fit[inside], "dispGeneEst"),
        ("final", fit[~fit["dispOutlier"]], "dispersion"),
        ("not shrunken", fit[fit["dispOutlier"]], "dispGeneEst"),  # outliers keep their estimate
    ):
        np.testing.assert_allclose(sorted_rows(points(ax, label)), sorted_rows(rows[["baseMean", column]].to_numpy()))
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert legend(ax)[:3] == ["gene-wise", "final", "13 outliers, not shrunken"]
    assert fit["dispOutlier"].sum() == 13


def test_the_trend_is_the_curve_of_its_coefficients(nb):
    ax = dispersions(nb, show=False)
    mean, trend = ax.lines[0].get_data()
    asymptote, extra = nb.uns["de"]["fit"]["trend_coefficients"]
    np.testing.assert_allclose(trend, asymptote + extra / mean, rtol=1e-7)  # R's means have nine digits
    expressed = nb.varm["de_fit"]["baseMean"][nb.varm["de_fit"]["baseMean"] > 0]
    assert (mean[0], mean[-1]) == (expressed.min(), expressed.max())
    # points lie evenly on the logarithm, so that the bend is smooth
    assert np.diff(np.log10(mean[(mean > 1) & (mean < 300)])).max() < 0.05
    assert legend(ax)[-1] == "trend: 0.3 + 1.21 / mean"


def test_other_trends_are_called_by_name(nb):
    nb.uns["de"]["fit"] = {"trend": "local", "trend_coefficients": np.array([])}
    assert legend(dispersions(nb, show=False))[-1] == "trend (local)"
    del nb.uns["de"]["fit"]
    assert legend(dispersions(nb, show=False))[-1] == "trend"


def test_estimates_at_the_bound_are_counted_at_the_edge(nb):
    ax = dispersions(nb, show=False)
    estimates = nb.varm["de_fit"]["dispGeneEst"]
    low, _ = ax.get_ylim()
    below = int((estimates < low).sum())
    assert (estimates < 1e-7).sum() > 300
    assert below >= (estimates < 1e-7).sum()
    edge = next(c.get_offsets() for c in ax.collections if len(c.get_offsets()) == below)
    np.testing.assert_allclose(edge[:, 1], low)
    assert f"{below} gene-wise estimates below the axis" in [text.get_text() for text in ax.texts]
    final = nb.varm["de_fit"]["dispersion"].dropna()
    assert ax.get_ylim()[0] < final.min()
    assert ax.get_ylim()[1] > final.max()


def test_limits_may_be_given(nb):
    ax = dispersions(nb, ylim=(1e-9, 100.0), title="mine", show=False)
    assert ax.get_ylim() == (1e-9, 100.0)
    assert ax.get_title() == "mine"
    assert len(points(ax, "gene-wise")) == nb.varm["de_fit"]["dispGeneEst"].notna().sum()
    assert not ax.texts


def test_axes_are_used_and_what_is_missing_is_said(nb, groups):
    figure, ax = plt.subplots()
    assert dispersions(nb, ax=ax, return_fig=True) is figure
    with pytest.raises(KeyError, match="fits of groups are not kept"):
        dispersions(groups, show=False)
    del nb.varm["de_fit"]
    with pytest.raises(KeyError, match=r"varm\['de_fit'\] is missing.*dbx\.tl\.de"):
        dispersions(nb, show=False)
