"""Cook's distances, flags and replacements against R DESeq2, on simulated sets with planted outliers."""

import numpy as np
import pytest
from deseq2_reference import deseq2
from scipy import stats

from dbx.ops.de.fit.cooks import (
    cooks_distance,
    cutoff,
    design_cells,
    max_cooks,
    outlier_flags,
    replacements,
    robust_dispersion,
)


class Distances:
    """What R had before it replaced outliers, from its final coefficients.

    Genes that R fitted anew have another fit now; for these the means of the two groups and a dispersion by moments
    stand in, near enough to tell outliers.
    """

    def __init__(self, name):
        reference = deseq2(name)
        self.results = results = reference.results[reference.counts.any(axis=1)]
        self.y = reference.counts[reference.counts.any(axis=1)]
        self.size_factors, design = reference.size_factors, reference.design
        self.refitted = results["replace"].eq(True).to_numpy()
        scaled = self.y / self.size_factors
        group = design[:, 1] == 1
        mean = np.where(
            group, scaled[:, group].mean(axis=1, keepdims=True), scaled[:, ~group].mean(axis=1, keepdims=True)
        )
        moments = np.maximum(((scaled - mean) ** 2 / np.maximum(mean, 0.5) ** 2).mean(axis=1), 0.05)
        beta = results[["beta_Intercept", "beta_condition_B_vs_A"]].to_numpy() * np.log(2)
        fitted = self.size_factors * np.where(self.refitted[:, None], np.maximum(mean, 1e-8), np.exp(beta @ design.T))
        hat = hat_diagonal(fitted, design, np.where(self.refitted, moments, results["dispersion"]))
        self.cells = design_cells(design)
        self.cooks = cooks_distance(self.y, fitted, hat, robust_dispersion(scaled, self.cells), 2)
        self.threshold = cutoff(len(self.cells), 2)
        self.new, self.genes, self.replaceable = replacements(
            self.y, self.size_factors, self.cooks, self.cells, self.threshold
        )
        self.max_cooks = max_cooks(self.cooks, self.cells, 2, self.replaceable)


def hat_diagonal(mu, design, dispersion):
    """DESeq2's: means not below 0.5, a ridge of 1e-6 on the log2 scale."""
    weight = 1 / (1 / np.maximum(mu, 0.5) + dispersion[:, None])
    information = np.einsum("gj,jp,jq->gpq", weight, design, design) + np.eye(2) * 1e-6 / np.log(2) ** 2
    return weight * np.einsum("jp,gpq,jq->gj", design, np.linalg.inv(information), design)


@pytest.fixture(scope="module", params=["outlier_4v4", "outlier_10v4"])
def distances(request):
    return Distances(request.param)


def test_max_cooks(distances):
    expected = distances.results["maxCooks"].to_numpy()
    # Where iterations ran away (one large count alone) R mixes the hat of a broken fit with the means of a mended one.
    comparable = ~distances.refitted & (distances.results["dispersion"] < 2)
    assert comparable.mean() > 0.9
    # nine digits of R's coefficients and dispersions
    np.testing.assert_allclose(distances.max_cooks[comparable], expected[comparable], rtol=1e-6)


def test_flags_are_those_of_r(distances):
    flags = outlier_flags(distances.max_cooks, distances.cooks, distances.y, distances.cells, distances.threshold)
    np.testing.assert_array_equal(flags, distances.results["pvalue"].isna())
    assert flags.sum() > 20


def test_replaced_genes_and_their_means_are_those_of_r(distances):
    np.testing.assert_array_equal(distances.genes, distances.refitted)
    assert distances.replaceable.tolist() == [n >= 7 for n in np.bincount(distances.cells)[distances.cells]]
    np.testing.assert_array_equal(distances.new[~distances.genes], distances.y[~distances.genes])
    means = (distances.new / distances.size_factors).mean(axis=1)
    np.testing.assert_allclose(means, distances.results["baseMean"], rtol=1e-8)


def test_cutoff(distances):
    name = "outlier_4v4" if len(distances.cells) == 8 else "outlier_10v4"
    assert distances.threshold == pytest.approx(deseq2(name).meta["cooksCutoff"], rel=1e-13)
    assert cutoff(4, 4) == np.inf


def test_no_distance_counts_without_replicates_degrees_of_freedom_or_samples():
    cooks = np.ones((2, 6))
    assert np.isnan(max_cooks(cooks, np.array([0, 0, 1, 1, 2, 2]), 3)).all()
    assert np.isnan(max_cooks(cooks, np.zeros(6, int), 6)).all()
    assert np.isnan(max_cooks(cooks, np.zeros(6, int), 1, np.ones(6, bool))).all()
    assert max_cooks(cooks, np.array([0, 0, 0, 1, 1, 1]), 2, np.array([1, 1, 1, 0, 0, 0], bool)).tolist() == [1, 1]
    # what is left are samples without replicates: R counts the replaced ones as zeros
    assert max_cooks(cooks, np.array([0, 0, 0, 0, 1, 1]), 2, np.array([1, 1, 1, 1, 0, 0], bool)).tolist() == [0, 0]


def test_samples_without_replicates_do_not_count():
    cooks = np.array([[1.0, 2, 3, 9, 9]])
    assert max_cooks(cooks, np.array([0, 0, 0, 1, 1]), 2).tolist() == [3]


def test_a_count_with_three_larger_ones_is_flagged_unless_two_groups_are_all_there_is():
    y = np.array([[5.0, 9, 9, 9, 0, 0], [5.0, 9, 9, 5, 5, 0]])
    cooks = np.array([[8.0, 0, 0, 0, 0, 0]] * 2)
    two, three = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 2, 2])
    assert outlier_flags(cooks.max(axis=1), cooks, y, two, 7).tolist() == [False, True]
    assert outlier_flags(cooks.max(axis=1), cooks, y, three, 7).tolist() == [True, True]
    assert outlier_flags(np.full(2, np.nan), cooks, y, two, 7).tolist() == [False, False]


def test_outliers_in_small_cells_stay_but_their_genes_are_fitted_anew():
    y = np.tile(np.arange(10.0, 20), (3, 1))
    cooks = np.zeros((3, 10))
    cooks[0, 9] = cooks[1, 0] = 10  # sample 9 stands in a cell of three
    new, genes, replaceable = replacements(y, np.full(10, 2.1), cooks, np.array([0] * 7 + [1] * 3), 5)
    assert genes.tolist() == [True, True, False]
    assert replaceable.tolist() == [True] * 7 + [False] * 3
    assert new[1, 0] == 14  # the trimmed mean is 14.5; rounded down
    new[1, 0] = y[1, 0]
    np.testing.assert_array_equal(new, y)
    assert not replacements(y, np.ones(10), cooks, np.array([0] * 6 + [1] * 4), 5)[1].any()


@pytest.mark.parametrize(
    ("n", "share", "scale"), [(3, 1 / 3, 2.04), (4, 0.25, 1.86), (23, 0.25, 1.86), (24, 0.125, 1.51), (50, 0.125, 1.51)]
)
def test_robust_dispersion_takes_the_most_variable_cell(n, share, scale):
    rng = np.random.default_rng(n)
    scaled = rng.lognormal(3, 2, (20, 2 * n + 2))
    cells = np.repeat([0, 1, 2], [n, n, 2])
    variances = []
    for cell in (0, 1):  # scipy's trimmed mean; the cell of two samples does not count
        values = scaled[:, cells == cell]
        deviation = values - stats.trim_mean(values, share, axis=1)[:, None]
        variances.append(scale * stats.trim_mean(deviation**2, share, axis=1))
    mean = scaled.mean(axis=1)
    expected = np.maximum((np.max(variances, axis=0) - mean) / mean**2, 0.04)
    np.testing.assert_allclose(robust_dispersion(scaled, cells), expected, rtol=1e-12)
    assert (expected > 0.04).any()


def test_robust_dispersion_without_replicates_takes_all_samples():
    scaled = np.random.default_rng(0).lognormal(3, 1, (20, 8))
    deviation = scaled - stats.trim_mean(scaled, 1 / 8, axis=1)[:, None]
    mean = scaled.mean(axis=1)
    expected = np.maximum((1.51 * stats.trim_mean(deviation**2, 1 / 8, axis=1) - mean) / mean**2, 0.04)
    np.testing.assert_allclose(robust_dispersion(scaled, np.arange(8)), expected, rtol=1e-12)


def test_design_cells():
    design = np.array([[1, 0, 0.5], [1, 1, 0.5], [1, 0, 0.5], [1, 1, 0.7]])
    cells = design_cells(design)
    assert cells[0] == cells[2]
    assert len({*cells.tolist()}) == 3
