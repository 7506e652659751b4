"""Binned dispersion against pandas and statsmodels, as scanpy computes it."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.robust import mad

from dbx.ops.genes.dispersion import bin_edges, dispersions, highest, normalized


@pytest.fixture
def genes():
    rng = np.random.default_rng(0)
    means = np.sort(rng.gamma(0.5, 1, 300))
    means[-1] = means[-2] + 2  # alone in its bin
    return means, np.log(rng.gamma(2, 1, 300))


def test_equally_wide_bins_are_those_of_pandas(genes):
    means, _ = genes
    expected = pd.cut(means, 20)
    found = pd.cut(means, bin_edges(means, "seurat", 20))
    assert list(found.codes) == list(expected.codes)
    same = np.full(5, 2.0)
    assert list(pd.cut(same, bin_edges(same, "seurat", 20)).codes) == list(pd.cut(same, 20).codes)


def test_seurat_takes_mean_and_sd_and_gives_a_lonely_gene_1(genes):
    means, disp = genes
    disp[5] = np.nan
    groups = pd.Series(disp).groupby(pd.cut(means, 20), observed=True)
    expected = (disp - groups.transform("mean")) / groups.transform("std")
    expected[groups.transform("count") == 1] = 1.0
    found = normalized(disp, means, "seurat", 20)
    assert found[-1] == 1
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_cell_ranger_takes_median_and_mad_in_bins_of_equal_share(genes):
    means, disp = genes
    edges = np.r_[-np.inf, np.percentile(means, np.arange(10, 105, 5)), np.inf]
    groups = pd.Series(disp).groupby(pd.cut(means, edges), observed=True)
    # the highest gene is alone above the last percentile but one: no spread, hence NaN or infinity
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = (disp - groups.transform("median")) / groups.transform(lambda v: mad(v))
        np.testing.assert_allclose(normalized(disp, means, "cell_ranger", 20), expected, rtol=1e-9)


def test_percentiles_that_fall_together_are_one_edge():
    means = np.r_[np.full(50, 1e-12), np.linspace(0.1, 2, 50)]
    found = normalized(np.linspace(0, 1, 100), means, "cell_ranger", 20)
    assert np.isfinite(found).sum() > 60


def test_seurats_scale_is_logarithmic_and_no_dispersion_is_unknown():
    mean, disp = dispersions(np.array([0.0, 1.0, 3.0]), np.array([0.0, 0.0, 6.0]), "seurat")
    np.testing.assert_allclose(mean, np.log1p([1e-12, 1.0, 3.0]))
    np.testing.assert_array_equal(np.isnan(disp), [True, True, False])
    assert disp[2] == pytest.approx(np.log(2))
    _, plain = dispersions(np.array([3.0]), np.array([6.0]), "cell_ranger")
    assert plain[0] == 2


def test_highest_takes_ties_and_never_nan():
    values = np.array([1.0, np.nan, 3.0, 2.0, 2.0])
    np.testing.assert_array_equal(highest(values, 2), [False, False, True, True, True])
    np.testing.assert_array_equal(highest(values, 9), [True, False, True, True, True])
    assert not highest(np.full(3, np.nan), 2).any()
