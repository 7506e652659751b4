"""Shrinkage by a Cauchy prior against R's apeglm and a general optimiser, and its parts against their definitions."""

import numpy as np
import pytest
from deseq2_reference import deseq2
from scipy import optimize, special

from dbx.ops.de.glm import genes
from dbx.ops.de.glm.genes import GeneCounts
from dbx.ops.de.glm.regression import regression
from dbx.ops.de.results.apeglm import apeglm, prior_scale, reparametrise, s_values

LN2 = np.log(2)
COUNTS = """
38 8 38 7 60 14 33 3
86 83 103 51 115 99 82 77
0 0 0 1 1 2 2 0
467 515 621 365 587 799 417 508
110 280 87 82 114 309 56 154
84 321 199 666 170 1934 124 922
1 0 28 0 7 0 2 0
"""
"""Seven genes of the airway experiment (GSE52778); the last one's posterior has two peaks."""
DISPERSION = [0.122543418, 0.0347869314, 4.80930248, 0.0101486331, 0.0294901114, 0.0269572745, 0.965612556]
FACTORS = """
1.02364764926706 0.896166721793923 1.17948612081678 0.670053829048202 1.17767135405022 1.39903646915342
0.920778683328161 0.944514089340919
"""
SCALE = 0.302099096310989
R_CHANGE = [-2.12012273, -0.111966659, 0.0028066499, 0.186026647, 1.17128173, 2.69455865, -0.198627768]
R_ERROR = [0.480549877, 0.185292332, 0.307117527, 0.108168406, 0.204034511, 0.183051655, 0.407861821]


def airway():
    cell = np.repeat([3, 0, 2, 1], 2)
    design = np.column_stack([np.ones(8), *(cell == level for level in (1, 2, 3)), np.tile([0, 1], 4)]).astype(float)
    counts = np.array(COUNTS.split(), float).reshape(7, 8)
    return counts, design, np.array(FACTORS.split(), float), np.array(DISPERSION)


def covariates(every=25):
    """Genes of a set with a batch, an age and a condition, with R's dispersions."""
    reference = deseq2("nb_6v6")
    genes = np.flatnonzero(reference.results["dispersion"].notna())[::every]
    dispersion = reference.results["dispersion"].to_numpy()[genes]
    return reference.counts[genes], reference.design, reference.size_factors, dispersion


@pytest.mark.parametrize("host_values", [0, genes.HOST_VALUES])
def test_changes_and_errors_are_those_of_r(host_values, monkeypatch):
    monkeypatch.setattr(genes, "HOST_VALUES", host_values)
    counts, design, factors, dispersion = airway()
    found = apeglm(GeneCounts.of(counts), regression(design, factors), dispersion, 4, SCALE)
    # R's own search ends 1e-4 short of the peak, log2
    np.testing.assert_allclose(found.change / LN2, R_CHANGE, atol=2e-4)
    np.testing.assert_allclose(found.error / LN2, R_ERROR, rtol=5e-4)
    np.testing.assert_allclose(found.false_sign_rate, special.ndtr(-np.abs(found.change) / found.error), rtol=1e-12)


@pytest.mark.parametrize("coefficient", [1, 2, 3])
@pytest.mark.parametrize("scale", [0.4, 1.0])
def test_the_peak_is_the_one_that_a_general_optimiser_climbs(coefficient, scale):
    counts, design, factors, dispersion = covariates()
    found = apeglm(GeneCounts.of(counts), regression(design, factors), dispersion, coefficient, scale)
    others = np.arange(design.shape[1]) != coefficient
    means = np.log((counts / factors).mean(axis=1))
    scaled_design = design / np.abs(design).max(axis=0)  # so that the optimiser sees coefficients of one size

    for gene, (y, alpha) in enumerate(zip(counts, dispersion, strict=True)):

        def minus_log_posterior(scaled, y=y, alpha=alpha):
            beta = scaled / np.abs(design).max(axis=0)
            log_mu = scaled_design @ scaled + np.log(factors)
            fit = y * log_mu - (y + 1 / alpha) * np.log1p(alpha * np.exp(log_mu))
            prior = np.log1p(beta[coefficient] ** 2 / scale**2) + (beta[others] ** 2).sum() / (2 * 15**2)
            return prior - fit.sum()

        start = np.r_[means[gene], np.zeros(design.shape[1] - 1)]
        climbed = optimize.minimize(minus_log_posterior, start, method="BFGS", options={"gtol": 1e-7})
        change = climbed.x[coefficient] / np.abs(design[:, coefficient]).max()
        assert found.change[gene] == pytest.approx(change, abs=1e-4 * max(found.error[gene], 1e-3))


def test_the_error_is_the_posterior_s_curvature():
    counts, design, factors, dispersion = covariates(every=200)
    change, error, _ = apeglm(GeneCounts.of(counts), regression(design, factors), dispersion, 3, 0.3)

    def height_along(shift):
        """Log posterior with the others at their best, by Newton steps of a plain ridge regression."""
        b = change + shift
        rest = design[:, :3]
        beta = np.column_stack([np.log((counts / factors).mean(axis=1)), np.zeros((len(b), 2))])
        for _ in range(50):
            mu = factors * np.exp(beta @ rest.T + np.outer(b, design[:, 3]))
            share = 1 / (1 + dispersion[:, None] * mu)
            weight = mu * share**2 * (1 + dispersion[:, None] * counts)
            slope = ((counts - mu) * share) @ rest - beta / 225
            information = np.einsum("gj,jp,jq->gpq", weight, rest, rest) + np.eye(3) / 225
            beta += np.linalg.solve(information, slope[:, :, None])[:, :, 0]
        fit = counts * np.log(mu) - (counts + 1 / dispersion[:, None]) * np.log1p(dispersion[:, None] * mu)
        return fit.sum(axis=1) - np.log1p((b / 0.3) ** 2) - (beta**2).sum(axis=1) / 450

    h = 0.02 * error
    curvature = (2 * height_along(0) - height_along(h) - height_along(-h)) / h**2
    np.testing.assert_allclose(error, 1 / np.sqrt(curvature), rtol=1e-3)


def test_a_gene_that_one_side_never_shows():
    counts = np.array([[0.0, 0, 0, 0, 40, 50, 60, 55], [0, 0, 0, 0, 0, 0, 0, 1]])
    design = np.column_stack([np.ones(8), np.repeat([0.0, 1], 4)])
    change, error, _ = apeglm(GeneCounts.of(counts), regression(design, np.ones(8)), np.array([0.1, 0.1]), 1, 0.3)
    assert change[0] > 4  # the likelihood alone has it at infinity
    assert abs(change[1]) < 0.2
    assert np.isfinite(error).all()


def extreme_genes(n_genes):
    """Three against three samples, with changes and dispersions of all sizes."""
    rng = np.random.default_rng(0)
    dispersion = 10 ** rng.uniform(-3, 1, n_genes)
    change = np.outer(rng.normal(0, 3, n_genes), np.tile([0, 1], 3))
    mean = rng.lognormal(3, 2, (n_genes, 1)) * np.exp(change)
    counts = rng.poisson(mean * rng.gamma(1 / dispersion, dispersion, (6, n_genes)).T).astype(float)
    return counts[counts.any(axis=1)], dispersion[counts.any(axis=1)]


def nearest_peak(counts, dispersion, scale, step=0.04, farthest=12):
    """Where the posterior, with the intercept at its best, first falls on the way up from no change."""
    dispersion, side = dispersion[:, None], np.tile([0, 1], 3)
    paths = []
    for change in (np.arange(0, farthest, step), -np.arange(0, farthest, step)):
        intercept, heights = np.log(counts.mean(axis=1)), []
        for b in change:
            for _ in range(6 if b else 40):
                mu = np.exp(intercept[:, None] + b * side)
                share = 1 / (1 + dispersion * mu)
                slope = ((counts - mu) * share).sum(axis=1) - intercept / 225
                information = (mu * share**2 * (1 + dispersion * counts)).sum(axis=1) + 1 / 225
                intercept = intercept + np.clip(slope / information, -1, 1)
            log_mu = intercept[:, None] + b * side
            fit = counts * log_mu - (counts + 1 / dispersion) * np.log1p(dispersion * np.exp(log_mu))
            heights.append(fit.sum(axis=1) - np.log1p((b / scale) ** 2) - intercept**2 / 450)
        paths.append(np.array(heights))
    up = paths[0][1] > paths[1][1]
    falls = np.diff(np.where(up, *paths), axis=0) < 0
    return np.where(up, 1, -1) * step * falls.argmax(axis=0)


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_the_climb_ends_on_the_nearest_peak(scale):
    """Some get lost without a bound on steps, without going back from a step down, or with Newton's step in valleys."""
    counts, dispersion = extreme_genes(2000)
    design = np.column_stack([np.ones(6), np.tile([0, 1], 3)]).astype(float)
    found = apeglm(GeneCounts.of(counts), regression(design, np.ones(6)), dispersion, 1, scale)
    shelf = np.isnan(found.error)  # no peak, but all but level, where the climb takes it for one
    assert shelf.sum() <= 1
    expected = nearest_peak(counts, dispersion, scale)
    np.testing.assert_allclose(found.change[~shelf], expected[~shelf], atol=0.05)
    assert (np.abs(expected) > 2).sum() > 200


def test_samples_that_stand_for_several():
    counts, design, factors, dispersion = covariates(every=200)
    repeated = np.repeat(np.arange(len(design)), 3)
    rng = np.random.default_rng(0)
    many = rng.poisson(counts[:, repeated]).astype(float)
    many[:, 0] += ~many.any(axis=1)
    direct = apeglm(GeneCounts.of(many), regression(design[repeated], factors[repeated]), dispersion, 3, 0.3)
    sums = many.reshape(len(many), -1, 3).sum(axis=2)
    model = regression(design, factors)._replace(repeats=np.full(len(design), 3.0))
    found = apeglm(GeneCounts.of(sums), model, dispersion, 3, 0.3)
    np.testing.assert_allclose(found.change, direct.change, atol=1e-7)
    np.testing.assert_allclose(found.error, direct.error, rtol=1e-6)


def test_a_contrast_is_shrunk_as_if_it_were_a_coefficient():
    counts, design, factors, dispersion = airway()
    three_vs_two = np.array([0, 0, -1.0, 1, 0])
    changed, coefficient = reparametrise(design, three_vs_two)
    found = apeglm(GeneCounts.of(counts), regression(changed, factors), dispersion, coefficient, 0.5)
    releveled = design.copy()
    releveled[:, 2] = 1 - design[:, 1:4].sum(axis=1)  # the level that was the reference, against what was the third
    direct = apeglm(GeneCounts.of(counts), regression(releveled, factors), dispersion, 3, 0.5)
    # but for the flat prior on the others, which sit elsewhere
    np.testing.assert_allclose(found.change, direct.change, atol=0.02)
    assert np.abs(found.change).max() > 0.2


def test_reparametrise():
    rng = np.random.default_rng(0)
    design, contrast, beta = rng.normal(size=(9, 4)), np.array([0, 1, -2.5, 0.5]), rng.normal(size=4)
    changed, coefficient = reparametrise(design, contrast)
    assert coefficient == 2
    new = beta.copy()
    new[coefficient] = contrast @ beta
    np.testing.assert_allclose(changed @ new, design @ beta, rtol=1e-12)
    np.testing.assert_array_equal(reparametrise(design, np.eye(4)[1])[0], design)


def test_prior_scale():
    rng = np.random.default_rng(0)
    error = rng.uniform(0.1, 1, 2000)
    change = rng.normal(0, np.sqrt(0.4**2 + error**2))
    scale = prior_scale(np.r_[change, np.nan, np.inf], np.r_[error, 1, 1])
    assert scale == pytest.approx(0.4, rel=0.1)
    weight = 1 / (scale**2 + error**2) ** 2
    assert (weight * (change**2 - error**2)).sum() / weight.sum() == pytest.approx(scale**2, rel=1e-6)
    assert prior_scale(3 * change, error / 10) == 1
    assert prior_scale(change / 100, error) == 1e-3  # less spread than noise


def test_s_values_are_r_s():
    change = np.array([3.28010653, 4.55954975, 2.93707889, 3.75440275, 3.34140161, 3.71528354])
    error = np.array([0.133327896, 0.185656993, 0.122001446, 0.157048235, 0.142814526, 0.167962266])
    expected = [6.04156668e-134, 1.16866475e-133, 7.77698601e-129, 3.37055117e-127, 4.6074685e-122, 1.70042048e-109]
    order = np.array([3, 0, 5, 1, 4, 2])
    rates = np.r_[np.nan, special.ndtr(-change / error)[order]]
    found = s_values(rates)
    assert np.isnan(found[0])
    # nine digits of ratios near 25 become six of their tails
    np.testing.assert_allclose(found[1:], np.array(expected)[order], rtol=3e-6)
