"""The tied mixture beside scikit-learn."""

import numpy as np
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from dbx.ops.clusters.tied_mixture import memberships, of_partition, tied_mixture


def points(rng):
    root = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 2.0]])
    middles = np.array([[0.0, 0, 0], [5, 0, 0], [0, 5, 0]])
    return middles[rng.integers(0, 3, 400)] + rng.normal(size=(400, 3)) @ root.T


def test_as_scikit_learn(rng):
    x = points(rng)
    found = tied_mixture(x, 3, n_init=3, tol=1e-9)
    settings = {"covariance_type": "tied", "tol": 1e-9, "max_iter": 500, "n_init": 3, "random_state": 0}
    reference = GaussianMixture(3, **settings).fit(x)
    np.testing.assert_allclose(found.log_likelihood, reference.score(x), rtol=1e-6)  # ridge of 1e-6 here and there
    np.testing.assert_allclose(found.covariance, reference.covariances_, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.bic(len(x)), reference.bic(x), rtol=1e-6)


def test_shrinkage_is_towards_a_sphere_of_the_same_trace(rng):
    x, labels = points(rng), rng.integers(0, 3, 400)
    plain, half, full = (of_partition(x, labels, 3, shrinkage=s) for s in (0.0, 0.5, 1.0))
    within = sum((labels == k).mean() * np.cov(x[labels == k].T, bias=True) for k in range(3))
    np.testing.assert_allclose(plain.covariance, within, rtol=1e-4, atol=1e-4)
    sphere = np.trace(within) / 3 * np.eye(3)
    np.testing.assert_allclose(full.covariance, sphere, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(half.covariance, (within + sphere) / 2, rtol=1e-4, atol=1e-4)


def test_memberships_by_densities(rng):
    x, labels = points(rng), rng.integers(0, 3, 400)
    found = of_partition(x, labels, 3)
    densities = [multivariate_normal(m, found.covariance).pdf(x) for m in found.means] * found.shares[:, None]
    np.testing.assert_allclose(memberships(x, found)[0], (densities / densities.sum(axis=0)).T, rtol=1e-8)
    np.testing.assert_allclose(found.log_likelihood, np.log(densities.sum(axis=0)).mean(), rtol=1e-10)
