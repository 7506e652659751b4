"""Widths of normal priors against their definition, written with loops, on R's coefficients."""

import numpy as np
import pytest
from deseq2_reference import deseq2
from scipy import stats

from dbx.ops.de.results.normal_shrinkage import prior_variances


def fitted(name):
    results = deseq2(name).results
    results = results[results["dispFit"].notna() & (results["baseMean"] > 0)]
    beta = results.filter(like="beta_").to_numpy()
    return beta, results["baseMean"].to_numpy(), results["dispFit"].to_numpy()


def weighted_quantile(values, weights, probability):
    """Hmisc's wtd.quantile with normwt=TRUE."""
    pairs = sorted(zip(values, weights * len(weights) / weights.sum(), strict=True))

    def value_at(rank):
        reached = 0.0
        for value, weight in pairs:
            reached += weight
            if reached >= rank:
                return value
        return pairs[-1][0]

    rank = 1 + (len(values) - 1) * probability
    low = np.floor(rank)
    return value_at(low) * (1 - rank + low) + value_at(low + 1) * (rank - low)


@pytest.mark.parametrize("name", ["nb_6v6", "outlier_10v4"])
def test_variances(name):
    beta, base_mean, trend = fitted(name)
    found = prior_variances(beta * np.log(2), base_mean, trend)
    assert found[0] == 1e6
    for i in range(1, beta.shape[1]):
        size = np.abs(beta[:, i])
        kept = size < 10
        weights = base_mean[kept] / (1 + trend[kept] * base_mean[kept])
        expected = (weighted_quantile(size[kept], weights, 0.95) / stats.norm.ppf(0.975)) ** 2
        assert found[i] == pytest.approx(expected, rel=1e-9)
    assert len(found) == beta.shape[1]


def test_runaways_do_not_count():
    assert (np.abs(fitted("outlier_10v4")[0][:, 1]) > 10).any()  # or the test above would not see the bound


def test_equal_weights_give_the_plain_quantile():
    beta = np.random.default_rng(0).normal(size=(333, 1))
    found = prior_variances(beta * np.log(2), np.full(333, 7.0), np.full(333, 0.1), intercept=None)
    expected = np.quantile(np.abs(beta), 0.95) / stats.norm.ppf(0.975)
    assert found == pytest.approx([expected**2], rel=1e-9)


def test_a_coefficient_that_ran_away_everywhere_is_not_shrunk():
    beta = np.array([[1.0, 10.1], [2.0, np.nan]]) * np.log(2)
    assert prior_variances(beta, np.ones(2), np.ones(2)).tolist() == [1e6, 1e6]


def test_genes_that_lost_all_counts_do_not_count():
    beta, base_mean, trend = fitted("nb_6v6")
    expected = prior_variances(beta, base_mean, trend)
    emptied = np.r_[beta, np.zeros((500, 4))], np.r_[base_mean, np.zeros(500)], np.r_[trend, np.full(500, np.nan)]
    np.testing.assert_allclose(prior_variances(*emptied), expected, rtol=1e-12)
