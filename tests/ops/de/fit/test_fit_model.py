"""The whole fit by its parts: starts, priors, outliers and what is fitted anew."""

import tracemalloc

import jax
import numpy as np
import pytest
from scipy import stats

from dbx.data import RowBlocks
from dbx.ops.de.fit import fit_model as fit
from dbx.ops.de.fit.fit_model import fit_model, shrink
from dbx.ops.de.fit.prepare import Settings, prepare_samples
from dbx.ops.de.glm import genes
from dbx.ops.de.glm.regression import regression
from dbx.ops.de.results.result_table import log_likelihood_ratio, shrunken

N = 16
TREATED, BATCH = np.arange(N) % 2, np.arange(N) // 8
DESIGN = np.column_stack([np.ones(N), BATCH, TREATED]).astype(float)
SIZE = np.random.default_rng(5).lognormal(0, 0.3, N)


def counts_of_genes(n_genes=40):
    rng = np.random.default_rng(0)
    mean = rng.gamma(1.5, 50, (n_genes, 1)) * SIZE * np.exp(rng.normal(0, 0.6, (n_genes, 1)) * TREATED)
    dispersion = (0.1 + 2 / mean.mean(axis=1, keepdims=True)) * rng.lognormal(0, 0.5, (n_genes, 1))
    y = rng.negative_binomial(1 / dispersion, 1 / (1 + dispersion * mean)).astype(float)
    y[7] = 0
    y[8] = 0
    y[8, 3] = 400  # one count alone, which is an outlier
    y[9, 4] = 30 * y[9].max()
    return y


@pytest.fixture(scope="module")
def counts():
    return counts_of_genes()


@pytest.fixture(scope="module")
def one_way():
    return Settings(DESIGN[:, [0, 2]], SIZE, fit_type="mean")


@pytest.fixture(scope="module")
def model(counts, one_way):
    return fit_model(RowBlocks(counts.T), one_way)


def test_genes_with_replaced_counts_are_fitted_anew(counts, one_way, model):
    present = np.delete(np.arange(40), 7)
    np.testing.assert_array_equal(model.counts.genes, present)
    eight, nine = 7, 8  # gene 7 has no counts
    assert model.replaced[[eight, nine]].all()
    now = model.counts.take(np.arange(39))
    changed = np.flatnonzero((now != counts[present]).any(axis=1))
    assert set(changed) <= set(np.flatnonzero(model.replaced))
    assert not now[eight].any()
    assert now[nine, 4] < counts[9].max()
    scaled = now / SIZE
    np.testing.assert_allclose(model.base_mean, scaled.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(model.base_variance, scaled.var(axis=1, ddof=1), rtol=1e-12)
    # by itself, with the trend and the prior of all genes before
    alone = prepare_samples(genes.GeneCounts.of(now[[nine]]), one_way)
    gene_wise, means = fit.gene_wise_dispersions(alone, one_way)
    dispersions = shrink(alone, means, gene_wise, model.shared, one_way)
    for ours, theirs in zip(model.dispersions, dispersions, strict=True):
        np.testing.assert_allclose(ours[nine], theirs[0], rtol=1e-9)
    # a gene that lost all its counts has no coefficients, and its dispersions are of no use but there
    assert model.base_mean[eight] == 0
    assert not model.coefficients.beta[eight].any()
    assert not model.covariance[eight].any()
    assert np.isfinite(model.dispersions.final).all()


def test_outliers_can_be_left(counts, one_way):
    left = fit_model(RowBlocks(counts.T), Settings(DESIGN[:, [0, 2]], SIZE, fit_type="mean", replace_outliers=False))
    assert not left.replaced.any()
    np.testing.assert_array_equal(left.counts.take(np.arange(39)), counts[counts.any(axis=1)])
    assert left.cooks_outlier[[7, 8]].all()


def test_sparse_counts_give_the_same(counts, one_way, model, monkeypatch):
    monkeypatch.setattr(genes, "DENSE_BYTES", 0)
    again = fit_model(RowBlocks(counts.T), one_way)
    np.testing.assert_allclose(again.coefficients.beta, model.coefficients.beta, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(again.dispersions.final, model.dispersions.final, rtol=1e-9)
    np.testing.assert_array_equal(again.replaced, model.replaced)
    np.testing.assert_allclose(again.max_cooks, model.max_cooks, rtol=1e-8)


def test_the_start_under_the_prior_and_what_is_not_shrunk(counts, one_way, monkeypatch):
    """Above a tenth of the trend the gene's own dispersion, else the trend; outliers stay where they are."""
    data = prepare_samples(genes.GeneCounts.of(counts), one_way)
    trend = lambda mean: np.full(len(mean), 0.2)  # noqa: E731
    shared = fit.Shared(trend, 0.25, 0.5, None)
    gene_wise = np.full(39, 0.2)
    gene_wise[:5] = [0.021, 0.019, 0.2 * np.exp(2 * 0.5**0.5) * 1.01, 0.2 * np.exp(2 * 0.5**0.5) * 0.99, 1e-8]
    started = []

    def search(counts, means, model, start, prior):
        started.append(start)
        np.testing.assert_allclose(prior.log_mean, np.log(0.2))
        assert prior.variance == 0.25
        return np.full(39, 0.1)

    monkeypatch.setattr(fit, "search_dispersions", search)
    found = shrink(data, None, gene_wise, shared, one_way)
    np.testing.assert_allclose(started[0][:5], [0.021, 0.2, *gene_wise[2:4], 0.2])
    assert found.outlier[:5].tolist() == [False, False, True, False, False]
    np.testing.assert_allclose(found.final[:4], [0.1, 0.1, gene_wise[2], 0.1])


def test_means_are_of_groups_or_of_a_regression(counts, one_way):
    """And not below the floor."""
    data = prepare_samples(genes.GeneCounts.of(counts), one_way)
    y = counts[counts.any(axis=1)]
    scaled = y / SIZE
    by_group = np.where(
        TREATED, scaled[:, TREATED == 1].mean(axis=1)[:, None], scaled[:, TREATED == 0].mean(axis=1)[:, None]
    )
    means = fit.Means(data, one_way)
    np.testing.assert_allclose(means(np.arange(39)), np.maximum(by_group * SIZE, 0.5), rtol=1e-9)
    assert one_way.is_one_way
    additive = Settings(DESIGN, SIZE)
    assert not additive.is_one_way
    regressed = fit.Means(prepare_samples(genes.GeneCounts.of(counts), additive), additive)
    assert (regressed(np.arange(39)) >= 0.5).all()
    assert not np.allclose(regressed(np.arange(39)), means(np.arange(39)), rtol=0.01)


def test_some_genes_of_a_model(model):
    part = model.only(np.array([4, 2]))
    np.testing.assert_array_equal(part.counts.genes, model.counts.genes[[4, 2]])
    np.testing.assert_array_equal(part.base_mean, model.base_mean[[4, 2]])
    np.testing.assert_array_equal(part.dispersions.final, model.dispersions.final[[4, 2]])
    np.testing.assert_array_equal(part.coefficients.beta, model.coefficients.beta[[4, 2]])
    assert part.regression is model.regression


def test_the_ratio_of_a_smaller_design_has_a_closed_form(model):
    """Against the mean alone, whose coefficient is the logarithm of the mean, as in R."""
    left = model.only(np.arange(6))
    smaller = regression(np.ones((N, 1)), SIZE)
    ratio = log_likelihood_ratio(left, smaller)
    y = left.counts.take(np.arange(6))
    null = SIZE * (y / SIZE).mean(axis=1, keepdims=True)
    for g in range(6):
        n = 1 / left.dispersions.final[g]
        full = SIZE * np.exp(left.coefficients.beta[g] @ DESIGN[:, [0, 2]].T)
        heights = [stats.nbinom.logpmf(y[g], n, n / (n + mu)).sum() for mu in (full, null[g])]
        np.testing.assert_allclose(ratio[g], 2 * (heights[0] - heights[1]), rtol=1e-6, atol=1e-9)


def test_shrinkage_of_a_contrast_is_that_of_its_coefficient(model):
    left = model.only(np.flatnonzero(model.base_mean > 0))
    for kind in ("apeglm", "normal"):
        ours, turned = (shrunken(kind, left, np.array(weights)) for weights in ([0.0, 1], [0.0, -1]))
        np.testing.assert_allclose(turned[:, 0], -ours[:, 0], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(turned[:, 1], ours[:, 1], rtol=1e-6)
    assert np.isnan(ours[:, 2]).all()


def test_stages_are_told(counts, one_way):
    told = []
    fit_model(RowBlocks(counts.T), one_way, lambda done, total, note="": told.append((done, total, note)))
    assert [done for done, _, _ in told] == [0, 1, 2, 3, 4]
    assert {total for _, total, _ in told} == {5}
    assert [note for *_, note in told] == ["counts", "gene-wise dispersions", "dispersions", "coefficients", "outliers"]


def test_compiled_functions_leave_the_precision_alone(model):
    assert not jax.config.jax_enable_x64
    assert model.coefficients.beta.dtype == np.float64


def test_many_samples_take_no_square_of_their_number():
    """A covariate for each of 5,000 cells: 200 MB if each had a value for each."""
    n = 5000
    settings = Settings(np.column_stack([np.ones(n), np.linspace(0, 1, n)]), np.ones(n), 1e-6, fit_type="mean")
    counts = genes.GeneCounts.of(np.random.default_rng(0).poisson(3.0, (4, n)).astype(float))
    tracemalloc.start()
    mu = prepare_samples(counts, settings).linear_means(np.arange(4))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    expected = np.linalg.lstsq(settings.design, counts.take(np.arange(4)).T, rcond=None)[0]
    np.testing.assert_allclose(mu, (settings.design @ expected).T, rtol=1e-9)
