"""Statistics and p-values beside SciPy, permutations and simulated null genes."""

import warnings

import numpy as np
import pytest
from scipy import stats

from dbx.data import RowBlocks
from dbx.ops.differential.gene_columns import gene_columns, joined
from dbx.ops.distribution.anderson_darling import anderson_darling, anderson_darling_pvalues, survival
from dbx.ops.distribution.component_shares import cauchy, component_pvalues, component_scores
from dbx.ops.distribution.distances import energy, energy_pvalues, wasserstein
from dbx.ops.distribution.kolmogorov_smirnov import exact_pvalues, kolmogorov_smirnov, kolmogorov_smirnov_pvalues
from dbx.ops.distribution.ordered import counted, ordered
from dbx.ops.distribution.permutations import permutation_pvalue, permuted_labels, tail_pvalue
from dbx.ops.distribution.samples import scaled_sample
from dbx.ops.distribution.spread import spread_pvalues
from dbx.ops.distribution.zero_rates import zero_model, zero_pvalues, zero_statistics


def genes_of(x, zeros):
    n_cells, n_genes = x.shape
    columns = joined(gene_columns(RowBlocks(x, dtype=np.float64), np.arange(n_cells), 0, n_genes), 0, n_genes)
    return ordered(columns, np.full(n_genes, zeros), n_cells)


@pytest.fixture(scope="module")
def tied():
    """Logarithms of small counts, and which cells are of the second condition; in gene 0 it is shifted."""
    rng = np.random.default_rng(0)
    x = np.log1p(rng.poisson(rng.gamma(2.0, 1.0, (90, 12)))).astype(float)
    second = rng.permutation(np.arange(90) < 40)
    x[second, 0] += np.log(2) * (x[second, 0] > 0)
    return x, second


@pytest.mark.parametrize("zeros", [True, False])
def test_statistics_are_those_of_scipy(tied, zeros):
    x, second = tied
    genes = genes_of(x, zeros)
    counts = counted(genes, second)
    found = kolmogorov_smirnov(genes, counts)
    pvalue = kolmogorov_smirnov_pvalues(genes, counts, found)
    standardised = anderson_darling(genes, counts)
    for i, values in enumerate(x.T):
        kept = np.ones(90, bool) if zeros else values > 0
        one, two = values[kept & second], values[kept & ~second]
        expected = stats.ks_2samp(one, two)
        np.testing.assert_allclose([found[i], pvalue[i]], [expected.statistic, expected.pvalue], rtol=1e-9)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SciPy's p-values are capped, and its interface changes
            normal = stats.anderson_ksamp([one, two]).statistic
        sigma = np.sqrt(_variance(len(one), len(two)))
        np.testing.assert_allclose(standardised[i], 1 + sigma * normal, rtol=1e-9)
        np.testing.assert_allclose(energy(genes, counts)[i], stats.energy_distance(one, two), rtol=1e-9)
        np.testing.assert_allclose(wasserstein(genes, counts)[i], stats.wasserstein_distance(one, two), rtol=1e-9)


def _variance(n_one, n_two):
    """Of A^2 without ties, from SciPy: its statistic is (A^2 - 1) / sigma, and here A^2 is computed in full."""
    one, two = np.arange(n_one, dtype=float), np.arange(n_two) + 0.5
    pooled = np.sort(np.concatenate([one, two]))
    n, b = len(pooled), np.arange(1, len(pooled) + 1) - 0.5
    total = 0.0
    for sample in (one, two):
        m = np.searchsorted(sample, pooled) + np.isin(pooled, sample) / 2
        total += ((n * m - b * len(sample)) ** 2 / (b * (n - b) - n / 4)).sum() / n / len(sample)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        normal = stats.anderson_ksamp([one, two]).statistic
    return ((total * (n - 1) / n - 1) / normal) ** 2


@pytest.mark.parametrize(("n_one", "n_two"), [(37, 37), (40, 55), (12_000, 9_000)])
def test_kolmogorov_smirnov_in_the_tail(n_one, n_two):
    rng = np.random.default_rng(1)
    one, two = rng.normal(size=n_one), rng.normal(3 / np.sqrt(min(n_one, n_two)) * 1.5, 1, n_two)
    genes = genes_of(np.concatenate([one, two])[:, None] + 20, zeros=True)
    counts = counted(genes, np.arange(n_one + n_two) < n_one)
    found = kolmogorov_smirnov(genes, counts)
    expected = stats.ks_2samp(one, two)
    np.testing.assert_allclose(kolmogorov_smirnov_pvalues(genes, counts, found), expected.pvalue, rtol=1e-6)
    assert exact_pvalues(np.array([5]), np.array([5]), np.array([0]))[0] == 1


def test_limit_of_anderson_darling_is_a_sum_of_chi_squared():
    rng = np.random.default_rng(2)
    j = np.arange(1, 40)
    drawn = rng.chisquare(1, (80_000, len(j))) @ (1 / (j * (j + 1))) + 1 / 40
    z = np.array([0.3, 1.0, 1.933, 2.492])
    np.testing.assert_allclose(survival(z), (drawn[:, None] > z).mean(axis=0), rtol=0.04)
    # far in the tail only the largest term counts: sqrt(3) P(chi2_1 > 2 z)
    np.testing.assert_allclose(survival(np.array([30.0])), np.sqrt(3) * stats.chi2.sf(60, 1), rtol=0.02)


@pytest.mark.parametrize(
    ("statistic", "pvalues"), [(anderson_darling, anderson_darling_pvalues), (energy, energy_pvalues)]
)
@pytest.mark.parametrize("zeros", [True, False])
def test_analytic_pvalues_are_those_of_permutations(tied, statistic, pvalues, zeros):
    x, second = tied
    genes = genes_of(x, zeros)
    labels = permuted_labels(second, None, 4000, np.random.default_rng(3))
    for i in range(6):
        gene = genes.gene(i)
        counts = counted(gene, second)
        found = statistic(gene, counts)
        permuted = statistic(gene, counted(gene, labels))
        share = (permuted >= found - 1e-9).mean()
        expected = pvalues(gene, counts, found)[0]
        assert abs(share - expected) < 0.02 + 0.1 * expected, (i, share, expected)


def test_spread_is_moods_test(tied):
    """SciPy's statistic without ties; with them, the p-value of permutations."""
    x, second = tied
    rng = np.random.default_rng(7)
    free = rng.normal(5, 1, (90, 5)) * np.where(second, 1.3, 1.0)[:, None] + 20
    genes = genes_of(free, zeros=True)
    expected = [stats.mood(column[second], column[~second]).pvalue for column in free.T]
    np.testing.assert_allclose(spread_pvalues(genes, counted(genes, second)), expected, rtol=1e-9)
    labels = permuted_labels(second, None, 4000, rng)
    for i in range(3):
        gene = genes_of(x[:, [i]], zeros=True)
        found, permuted = (spread_pvalues(gene, counted(gene, chosen)) for chosen in (second[None], labels))
        share = (permuted <= found[0] + 1e-12).mean()
        assert abs(share - found[0]) < 0.02 + 0.1 * share


def test_shares_of_components():
    """Genes of two components get a p-value, which is that of permutations of the scores."""
    rng = np.random.default_rng(6)
    second = np.arange(120) < 50
    x = rng.normal(3, 0.2, (120, 40)) + 1.0 * (rng.random((120, 40)) < np.where(second, 0.65, 0.5)[:, None])
    x[:, ::2] = rng.normal(3, 0.2, (120, 20))
    genes = joined(gene_columns(RowBlocks(x, dtype=np.float64), np.arange(120), 0, 40), 0, 40)
    scores = component_scores(genes, scaled_sample(genes, second, 120))
    assert scores.two[1::2].mean() > 0.7
    assert scores.two[::2].mean() < 0.2
    pvalue = component_pvalues(scores, second)
    assert np.isnan(pvalue[~scores.two]).all()
    labels = permuted_labels(second, None, 4000, rng)
    for i in np.flatnonzero(scores.two)[:4]:
        one = scores.gene(i)
        apart = np.abs(labels[:, one.cell] @ one.score - 50 * one.score.mean())
        share = (apart >= abs(one.score[second[one.cell]].sum() - 50 * one.score.mean()) - 1e-9).mean()
        assert abs(share - pvalue[i]) < 0.02 + 0.1 * share
        np.testing.assert_allclose(component_pvalues(one, second[None])[0], pvalue[i], rtol=1e-9)
    # the rule of Cauchy: for equal p-values their value, for a tiny one twice it
    np.testing.assert_allclose(cauchy(np.array([0.3, 1e-20]), np.array([0.3, 0.5])), [0.3, 2e-20], rtol=1e-6)


def test_zeros_by_a_score_test():
    rng = np.random.default_rng(4)
    rate, second = rng.beta(8, 4, 400), rng.random(400) < 0.5
    zero = rng.random((400, 600)) < 1 / (1 + np.exp(4 * (rate[:, None] - 0.5)))
    zero[second, 0] |= rng.random(second.sum()) < 0.4
    model = zero_model(zero, rate)
    pvalue = zero_pvalues(zero_statistics(model, second))
    assert pvalue[0] < 1e-8
    assert 0.03 < (pvalue[1:] < 0.05).mean() < 0.07
    # without a covariate it is Pearson's chi-squared test of the table
    plain = zero_pvalues(zero_statistics(zero_model(zero[:, :5], np.ones(400)), second))
    tables = [[[(z & s).sum() for z in (column, ~column)] for s in (second, ~second)] for column in zero[:, :5].T]
    expected = [stats.chi2_contingency(table, correction=False).pvalue for table in tables]
    np.testing.assert_allclose(plain, expected, rtol=1e-6)


def test_permutations_within_batches_and_their_tail():
    rng = np.random.default_rng(5)
    second, batch = rng.random(60) < 0.4, rng.integers(0, 3, 60)
    labels = permuted_labels(second, batch, 50, rng)
    for value in range(3):
        np.testing.assert_array_equal(labels[:, batch == value].sum(axis=1), second[batch == value].sum())
    assert len(np.unique(labels, axis=0)) > 40
    draws = rng.exponential(size=1000)
    assert tail_pvalue(15.0, draws) == pytest.approx(np.exp(-15), rel=5)  # 1,000 draws: within a factor of 6
    values = iter(np.split(draws, [100, 500]))
    assert permutation_pvalue(1.0, lambda chosen: next(values)[: len(chosen)], np.zeros((1000, 1), bool)) == (
        pytest.approx((1 + (draws[:100] >= 1).sum()) / 101)
    )
