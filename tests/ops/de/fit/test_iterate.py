"""Size factors by maximum likelihood; on airway (which stays out) they are within 4e-6 of R DESeq2's."""

import numpy as np
import pytest
from deseq2_reference import deseq2
from scipy import optimize, stats

from dbx.data import RowBlocks
from dbx.ops.de.fit.iterate import _Likelihood, iterate_size_factors
from dbx.ops.de.glm.genes import GeneCounts


@pytest.fixture(scope="module")
def simulated():
    """(counts, true factors) of eight samples and 600 genes; every gene has a zero somewhere."""
    rng = np.random.default_rng(2)
    factors = np.exp(rng.normal(0, 0.5, 8))
    factors /= np.exp(np.log(factors).mean())
    mean = rng.lognormal(3, 1, 600)
    counts = rng.negative_binomial(5, 5 / (5 + mean * factors[:, None])).astype(np.float64)
    counts[rng.integers(0, 8, 600), np.arange(600)] = 0
    return counts, factors


def test_finds_the_true_factors_where_no_gene_is_free_of_zeros(simulated):
    counts, factors = simulated
    assert (counts == 0).any(axis=0).all()
    calls = []
    found = iterate_size_factors(RowBlocks(counts, dtype=np.float64), lambda *call: calls.append(call))
    assert np.log(found).mean() == pytest.approx(0, abs=1e-12)
    # 600 genes of dispersion 0.2 and more by the planted zeros: errors of about sqrt(0.3 / 600)
    np.testing.assert_allclose(found, factors, rtol=0.08)
    assert 2 <= len(calls) <= 10
    assert calls[-1][0] == calls[-1][1]


def test_a_sample_of_its_own_depth_changes_its_factor_alone(simulated):
    counts, _ = simulated
    deeper = counts * np.array([1, 1, 3, 1, 1, 1, 1, 1])[:, None]
    once, again = (iterate_size_factors(RowBlocks(x, dtype=np.float64)) for x in (counts, deeper))
    np.testing.assert_allclose((again / once) / (again / once)[0], [1, 1, 3, 1, 1, 1, 1, 1], rtol=0.04)


def test_likelihood_is_the_negative_binomial_one_of_95_percent_of_genes(simulated):
    counts, factors = simulated
    likelihood = _Likelihood(GeneCounts(RowBlocks(counts, dtype=np.float64)), factors)
    moved = factors * np.exp(np.linspace(-0.1, 0.1, 8))
    mu = np.maximum((counts / factors[:, None]).mean(axis=0) * factors[:, None], 0.5) * (moved / factors)[:, None]
    size = 1 / likelihood.dispersion[:, 0]
    heights = stats.nbinom.logpmf(counts, size, size / (size + mu)).sum(axis=0)
    expected = np.sort(heights)[30:].sum()  # 5% of 600
    value, slope = likelihood(np.log(moved) + 7)
    assert -value == pytest.approx(expected, rel=1e-10)
    assert slope.sum() == pytest.approx(0, abs=1e-6)
    numeric = optimize.approx_fprime(np.log(moved), lambda logs: likelihood(logs)[0], 1e-6)
    np.testing.assert_allclose(slope, numeric, rtol=1e-3, atol=0.05)


def test_an_empty_sample_is_an_error(simulated):
    counts = simulated[0].copy()
    counts[3] = 0
    with pytest.raises(ValueError, match="1 samples have no counts at all .the first is number 3"):
        iterate_size_factors(RowBlocks(counts, dtype=np.float64))


def test_factors_of_a_simulated_set():
    """Computed by this very code after it gave R's factors on airway: pins dispersions, trend and genes left out."""
    found = iterate_size_factors(RowBlocks(deseq2("nb_3v3").counts.T, dtype=np.float64))
    expected = [1.15624387, 0.6852049, 0.63939292, 2.12948423, 1.2287959, 0.75441113]
    np.testing.assert_allclose(found, expected, rtol=3e-5)  # where the maximisation stops is good to 1e-6
