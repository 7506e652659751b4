"""Parts of the calibrated doublet score beside scikit-learn and separate computations."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from dbx.ops.droplets.doublet_evidence import WIDTHS, neighbour_odds
from dbx.ops.droplets.doublet_odds import balanced, sample_shifts
from dbx.ops.droplets.expected_rate import prior_shift
from dbx.ops.droplets.ridge_logistic import ridge_logistic
from dbx.ops.droplets.simulated_pairs import pairs_within, with_losses


def test_ridge_logistic_is_scikit_learns(rng):
    x, weight = rng.normal(size=(300, 4)), rng.uniform(0.2, 2, 300)
    y = (rng.random(300) < 1 / (1 + np.exp(-(x @ [1, -1, 0.5, 0])))).astype(float)
    model = LogisticRegression(C=1 / 7, fit_intercept=False, tol=1e-10, max_iter=1000)
    expected = model.fit(x, y, sample_weight=weight).coef_[0]
    np.testing.assert_allclose(ridge_logistic(x, y, weight, 7.0), expected, atol=1e-6)
    centre = np.array([3.0, 0, 0, 1])
    np.testing.assert_allclose(ridge_logistic(x, y, weight, 1e8, centre), centre, atol=1e-4)


def test_separable_classes_are_fitted(rng):
    x = np.column_stack([np.ones(60), np.repeat([-50.0, 50.0], 30)])
    beta = ridge_logistic(x, np.repeat([0.0, 1.0], 30), np.ones(60), np.array([0.0, 1.0]))
    assert np.isfinite(beta).all()
    assert beta[1] > 0.05


def test_a_cell_is_not_its_own_neighbour(rng):
    distance = np.sort(rng.uniform(1, 2, (2, 201)), axis=1)
    distance[0, 0] = 0
    simulated = rng.random((2, 201)) < 0.4
    odds = np.asarray(neighbour_odds(simulated, distance))
    for row, first in ((0, 1), (1, 0)):
        for column, width in enumerate(WIDTHS):
            near = simulated[row, first : first + width].sum()
            assert odds[row, column] == pytest.approx(np.log((near + 1) / (width - near + 1)), abs=1e-5)


def test_pairs_are_of_two_cells_of_one_sample(rng):
    sample = rng.permutation(np.repeat([0, 1, 2], [40, 7, 2]))
    pairs = pairs_within(sample, 98, rng)
    np.testing.assert_array_equal(sample[pairs[:, 0]], sample[pairs[:, 1]])
    assert (pairs[:, 0] != pairs[:, 1]).all()
    np.testing.assert_array_equal(np.bincount(pairs[:, 0]), 2)
    second = np.concatenate([pairs_within(np.zeros(5, int), 500, rng)[:, 1] for _ in range(4)])
    assert np.abs(np.bincount(second) - 400).max() < 80  # four standard deviations of a count of 400 of 2,000


def test_half_of_the_doublets_lose_up_to_half(rng):
    counts = sparse.csr_matrix(rng.poisson(100.0, (400, 30)).astype(np.float32))
    kept = with_losses(counts, rng).toarray().sum(axis=1) / counts.toarray().sum(axis=1)
    assert (kept == 1).mean() == pytest.approx(0.5, abs=0.1)
    assert kept[kept < 1].mean() == pytest.approx(0.75, abs=0.03)


def test_both_classes_weigh_the_same_in_each_sample(rng):
    observed, simulated = np.repeat([0, 1], [30, 6]), np.repeat([0, 1], [50, 3])
    weight = balanced(rng.uniform(0.1, 1, 36), observed, simulated, 2)
    for one, n_cells in enumerate((30, 6)):
        assert weight[:36][observed == one].sum() == pytest.approx(n_cells)
        assert weight[36:][simulated == one].sum() == pytest.approx(n_cells)


def test_a_small_sample_has_the_prior_of_all(rng):
    logit = np.concatenate([rng.normal(0, 2, 4000), rng.normal(3, 2, 4000), rng.normal(3, 2, 4)])
    sample = np.repeat([0, 1, 2], [4000, 4000, 4])
    shifts = sample_shifts(logit, sample, 3, 0.1)
    own = [prior_shift(logit[sample == one], 0.1) for one in range(3)]
    np.testing.assert_allclose(shifts[:2], own[:2], atol=0.1)
    assert abs(shifts[2] - shifts[3]) < 0.1 < abs(own[2] - shifts[3])
