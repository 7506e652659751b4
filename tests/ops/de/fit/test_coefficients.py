"""Negative binomial regressions beside statsmodels, scipy's optimisers and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import statsmodels.api as sm
from scipy import optimize, stats

from dbx.ops.de.fit import coefficients
from dbx.ops.de.fit.coefficients import MAX_COEFFICIENT, MAX_ITER, deviance_of_means, fit_coefficients
from dbx.ops.de.glm import genes
from dbx.ops.de.glm.genes import GeneCounts
from dbx.ops.de.glm.likelihood import log_rising, log_rising_slope
from dbx.ops.de.glm.linear import gram, host_sweep, projection, quadratic, sweep
from dbx.ops.de.glm.regression import RIDGE, moments, regression

N_SAMPLES, N_GENES = 60, 14
SMOOTH = 1e-9
"""A floor that no mean is below."""


@pytest.fixture(scope="module")
def data():
    """Counts of genes with dispersions from 0.02 to 3, a design of two factors and a covariate."""
    rng = np.random.default_rng(0)
    batch, line, age = rng.integers(0, 2, N_SAMPLES), rng.integers(0, 3, N_SAMPLES), rng.normal(size=N_SAMPLES)
    design = np.column_stack([np.ones(N_SAMPLES), age, batch, line == 1, line == 2]).astype(float)
    beta = rng.normal([2, 0, 0, 0, 0], [1.0, 0.2, 0.4, 0.6, 0.6], (N_GENES, 5))
    size = rng.lognormal(0, 0.4, N_SAMPLES)
    dispersion = np.geomspace(0.02, 3, N_GENES)
    mu = size * np.exp(beta @ design.T)
    y = rng.negative_binomial(1 / dispersion[:, None], 1 / (1 + dispersion[:, None] * mu)).astype(float)
    return y, design, size, dispersion


@pytest.fixture(scope="module")
def fitted(data):
    y, design, size, dispersion = data
    return fit_coefficients(GeneCounts.of(y), regression(design, size, SMOOTH), dispersion)


# --- likelihood ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-3, 0.3, 1, 7, 1e3, 1e8])
def test_the_rising_factorial_keeps_its_digits(size):
    y = np.array([0.0, 1, 2, 5, 40, 3000])
    exact = np.array([np.log1p(np.arange(int(k)) / size).sum() for k in y])
    slope = np.array([(1 / (size + np.arange(int(k)))).sum() - k / size for k in y])
    with jax.enable_x64(True):
        ours, theirs = (
            log_rising(jnp.asarray(y), jnp.asarray(size)),
            log_rising_slope(jnp.asarray(y), jnp.asarray(size)),
        )
    # relative to sums of up to thousands of logarithms, and absolute where they are next to nothing
    np.testing.assert_allclose(ours, exact, rtol=2e-13, atol=3e-12)
    np.testing.assert_allclose(log_rising(y, np.array(size)), exact, rtol=2e-13, atol=3e-12)
    np.testing.assert_allclose(theirs, slope, rtol=1e-11, atol=1e-12 * max(1, 1 / size))


def test_deviances_differ_as_likelihoods_do(data, fitted):
    y, design, size, dispersion = data
    mu = size * np.exp(fitted.beta @ design.T)
    moved = 1.3 * mu
    ours = [deviance_of_means(y, np.log(m), dispersion[:, None], np.ones(N_SAMPLES)) for m in (mu, moved)]
    n = 1 / dispersion[:, None]
    theirs = [-2 * stats.nbinom.logpmf(y, n, n / (n + m)).sum(axis=1) for m in (mu, moved)]
    np.testing.assert_allclose(ours[1] - ours[0], theirs[1] - theirs[0], rtol=1e-9)
    twice = deviance_of_means(2 * y, np.log(mu), dispersion[:, None], 2 * np.ones(N_SAMPLES))
    np.testing.assert_allclose(twice, 2 * ours[0], rtol=1e-12)  # each sample stands for two


# --- linear algebra --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [6, 10])  # many coefficients are left to LAPACK
def test_sweeping_inverts(n):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, n, n + 3))
    matrices = root @ root.transpose(0, 2, 1)
    with jax.enable_x64(True):
        inverses, log_determinants = sweep(jnp.asarray(matrices))
    np.testing.assert_allclose(inverses, np.linalg.inv(matrices), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(log_determinants, np.linalg.slogdet(matrices)[1], rtol=1e-12)
    for one, two in zip(host_sweep(matrices), (inverses, log_determinants), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-12)


def test_products_of_designs():
    rng = np.random.default_rng(0)
    design, weight, matrices = rng.normal(size=(9, 3)), rng.random((4, 9)), rng.normal(size=(4, 3, 3))
    np.testing.assert_allclose(gram(weight, design), np.einsum("gj,jp,jq->gpq", weight, design, design), rtol=1e-12)
    expected = np.einsum("jp,gpq,jq->gj", design, matrices, design)
    np.testing.assert_allclose(quadratic(matrices, design), expected, rtol=1e-12)
    values = rng.normal(size=(2, 9))
    least_squares = np.linalg.lstsq(design, values.T, rcond=None)[0].T
    np.testing.assert_allclose(values @ projection(design), least_squares, rtol=1e-10)


# --- coefficients ----------------------------------------------------------------------------------------------------


def test_coefficients_and_errors_are_statsmodels(data, fitted):
    y, design, size, dispersion = data
    model = regression(design, size, SMOOTH)
    covariance = moments(model, dispersion, fitted.beta).covariance
    assert fitted.converged.all()
    np.testing.assert_array_equal(fitted.diverged, fitted.beta)
    assert (fitted.n_iter < 30).all()
    for g in range(N_GENES):
        family = sm.families.NegativeBinomial(alpha=dispersion[g])
        theirs = sm.GLM(y[g], design, family=family, offset=np.log(size)).fit(tol=1e-14, maxiter=300)
        # the rule to stop leaves the deviance a relative 1e-8 from its minimum at most
        np.testing.assert_allclose(fitted.beta[g], theirs.params, atol=1e-3 * theirs.bse.max())
        np.testing.assert_allclose(covariance[g], theirs.cov_params(), rtol=1e-3, atol=1e-6)


def test_the_iterations_end_where_the_deviance_stands_still(data):
    """R's sequence of iterations by hand, with the whole deviance in the rule."""
    y, design, size, dispersion = data
    fit = fit_coefficients(GeneCounts.of(y), regression(design, size, 0.5), dispersion)
    for g in range(N_GENES):
        alpha, n = dispersion[g], 1 / dispersion[g]
        beta = np.linalg.lstsq(design, np.log(y[g] / size + 0.1), rcond=None)[0]
        mu, before = np.maximum(size * np.exp(design @ beta), 0.5), 0.0
        for done in range(MAX_ITER):
            weight = mu / (1 + alpha * mu)
            target = np.log(mu / size) + (y[g] - mu) / mu
            beta = np.linalg.solve(
                design.T @ (weight[:, None] * design) + RIDGE * np.eye(5), design.T @ (weight * target)
            )
            mu = np.maximum(size * np.exp(design @ beta), 0.5)
            deviance = -2 * stats.nbinom.logpmf(y[g], n, n / (n + mu)).sum()
            if done and abs(deviance - before) / (abs(deviance) + 0.1) < 1e-8:
                break
            before = deviance
        assert fit.n_iter[g] == done + 1
        np.testing.assert_allclose(fit.beta[g], beta, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("n_iter", "change", "steps"),
    # settled after a step that changes the deviance by less than 1e-8 of itself and a tenth, but not by the first one
    [(1, 0.9e-8, 1), (1, 1.1e-8, 2), (0, 0.9e-8, 2), (98, 1.1e-8, 2), (99, 1.1e-8, 1)],
)
def test_the_rule_to_stop(data, n_iter, change, steps):
    y, design, size, dispersion = data
    model = regression(design, size, SMOOTH)
    beta = np.linalg.lstsq(design, np.log(y / size + 0.1).T, rcond=None)[0].T
    for _ in range(60):
        mu = model.means(beta)
        weight = mu / (1 + dispersion[:, None] * mu)
        target = (weight * (np.log(mu / size) + (y - mu) / mu)) @ design
        beta = np.linalg.solve(gram(weight, design) + RIDGE * np.eye(5), target[..., None])[..., 0]
    deviance = 0.05
    constant = deviance - deviance_of_means(y, model.log_means(beta), dispersion[:, None], np.ones(N_SAMPLES))
    before, ones = np.full(N_GENES, deviance + change * (deviance + 0.1)), np.ones(N_GENES, np.int32)
    with jax.enable_x64(True):
        state = coefficients.State(constant, beta, before, n_iter * ones, ones > 0)
        found = coefficients._advance(model, y, dispersion, state)
    np.testing.assert_array_equal(found.n_iter, n_iter + steps)
    assert not np.asarray(found.active).any()


@pytest.mark.parametrize("host_values", [0, 1 << 30])
def test_blocks_of_genes_change_nothing(data, fitted, monkeypatch, host_values):
    y, design, size, dispersion = data
    monkeypatch.setattr(genes, "HOST_VALUES", host_values)
    monkeypatch.setattr(genes, "HOST_BLOCK_VALUES", 4 * N_SAMPLES)
    monkeypatch.setattr(genes, "BLOCK_VALUES", 0)
    monkeypatch.setattr(genes.GeneCounts, "block_size", property(lambda self: 4))
    again = fit_coefficients(GeneCounts.of(y), regression(design, size, SMOOTH), dispersion)
    np.testing.assert_allclose(again.beta, fitted.beta, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(again.n_iter, fitted.n_iter)


def test_a_mean_alone_has_a_closed_form(data):
    y, _, size, dispersion = data
    fit = fit_coefficients(GeneCounts.of(y), regression(np.ones((N_SAMPLES, 1)), size), dispersion)
    np.testing.assert_allclose(np.exp(fit.beta[:, 0]), (y / size).mean(axis=1), rtol=1e-12)
    assert fit.converged.all()
    shrunk = fit_coefficients(GeneCounts.of(y), regression(np.ones((N_SAMPLES, 1)), size, ridge=5.0), dispersion)
    mu = size * np.exp(shrunk.beta)  # with a prior there is none
    slope = ((y - mu) / (1 + dispersion[:, None] * mu)).sum(axis=1) - 5 * shrunk.beta[:, 0]
    assert np.median(np.abs(slope)) < 1e-3


@pytest.fixture(scope="module")
def runaway():
    """Counts of eight samples in two groups, one of which has none; beside a gene that is well behaved."""
    y = np.array([[0.0, 0, 0, 0, 700, 0, 0, 0], [9, 7, 8, 9, 12, 14, 9, 11]])
    design = np.column_stack([np.ones(8), np.arange(8) > 3]).astype(float)
    return y, design, np.array([3.0, 0.1])


def test_coefficients_that_run_away_go_to_the_optimiser(runaway):
    y, design, dispersion = runaway
    model = regression(design, np.ones(8))
    fit = fit_coefficients(GeneCounts.of(y), model, dispersion)
    assert (fit.n_iter == MAX_ITER).tolist() == [True, False]
    assert fit.converged.all()
    assert np.abs(fit.beta).max() < MAX_COEFFICIENT * np.log(2)
    assert (np.abs(fit.diverged[0]) > 1.2 * np.abs(fit.beta[0])).any()

    def loss(beta):
        mu, n = np.exp(design @ beta), 1 / dispersion[0]
        terms = y[0] * np.log(mu) - (y[0] + n) * np.log1p(mu / n)
        return RIDGE * (beta**2).sum() / 2 - terms.sum()

    best = optimize.minimize(loss, fit.beta[0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12}).fun
    # the search ends when a step gains less than 2e-9 of the height
    assert loss(fit.beta[0]) - best < 1e-4
    mean = y[0, 4:].mean()
    np.testing.assert_allclose(np.exp(fit.beta[0].sum()), mean, rtol=0.01)


def test_moments_by_their_definition(data, fitted):
    _, design, size, dispersion = data
    model = regression(design, size, 2.0)
    found = moments(model, dispersion, fitted.beta)
    mu = size * np.exp(fitted.beta @ design.T)
    np.testing.assert_allclose(found.mu, mu, rtol=1e-12)
    assert (mu < 2).any()
    weight = np.maximum(mu, 2) / (1 + dispersion[:, None] * np.maximum(mu, 2))
    for g in range(N_GENES):
        information = design.T @ (weight[g][:, None] * design)
        bread = np.linalg.inv(information + RIDGE * np.eye(5))
        np.testing.assert_allclose(found.covariance[g], bread @ information @ bread, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.hat[g], weight[g] * np.einsum("jp,pq,jq->j", design, bread, design), rtol=1e-9)


def test_leverages_are_taken_from_where_iterations_ended(data, fitted):
    """And means and errors from where the optimiser did."""
    _, design, size, dispersion = data
    model, ended = regression(design, size), fitted.beta.copy()
    ended[3] += 0.5
    ended[4, 3] = 2000.0
    found, plain = moments(model, dispersion, fitted.beta, ended), moments(model, dispersion, fitted.beta)
    there = moments(model, dispersion, np.minimum(ended, 100))
    np.testing.assert_allclose(found.hat[3], there.hat[3], rtol=1e-12)
    assert not np.allclose(found.hat[3], plain.hat[3], rtol=1e-2)
    assert np.isfinite(found.hat[4]).all()
    np.testing.assert_array_equal(np.delete(found.hat, [3, 4], axis=0), np.delete(plain.hat, [3, 4], axis=0))
    np.testing.assert_array_equal(found.covariance, plain.covariance)
    np.testing.assert_array_equal(found.mu, plain.mu)


def test_what_does_not_settle_goes_to_the_optimiser_too(data, monkeypatch):
    y, design, size, dispersion = data
    monkeypatch.setattr(coefficients, "MAX_ITER", 2)
    fit = fit_coefficients(GeneCounts.of(y[:3]), regression(design, size, SMOOTH), dispersion[:3])
    assert (fit.n_iter == 2).all()
    assert fit.converged.all()
    for g in range(3):
        family = sm.families.NegativeBinomial(alpha=dispersion[g])
        theirs = sm.GLM(y[g], design, family=family, offset=np.log(size)).fit(tol=1e-14)
        np.testing.assert_allclose(fit.beta[g], theirs.params, atol=0.02)
        assert not np.allclose(fit.diverged[g], theirs.params, atol=1e-6)


def test_the_floor_is_in_weights_and_not_in_means():
    y = np.array([[0.0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0]])
    design = np.column_stack([np.ones(12), np.arange(12) % 2]).astype(float)
    dispersion = np.array([0.2])
    low, high = (regression(design, np.ones(12), floor) for floor in (0.5, SMOOTH))
    beta = fit_coefficients(GeneCounts.of(y), high, dispersion).beta
    np.testing.assert_allclose(np.exp(beta @ design.T)[0, :2], [1 / 6, 1 / 6], rtol=1e-4)
    mu = low.means(beta)
    np.testing.assert_allclose(mu, high.means(beta), rtol=1e-12)
    np.testing.assert_allclose(low.log_means(beta), np.log(mu), rtol=1e-12)
    weight = np.full(12, 0.5 / 1.1)
    information = design.T @ (weight[:, None] * design)
    expected = (
        np.linalg.inv(information + RIDGE * np.eye(2)) @ information @ np.linalg.inv(information + RIDGE * np.eye(2))
    )
    np.testing.assert_allclose(moments(low, dispersion, beta).covariance[0], expected, rtol=1e-10)


def test_a_ridge_shrinks(data):
    y, design, size, dispersion = data
    ridge = np.array([1e-6, 1e-6, 1e-6, 50, 50])
    fit = fit_coefficients(GeneCounts.of(y), regression(design, size, SMOOTH, ridge), dispersion)
    mu = size * np.exp(fit.beta @ design.T)
    slope = ((y - mu) / (1 + dispersion[:, None] * mu)) @ design - ridge * fit.beta
    np.testing.assert_allclose(slope, 0, atol=0.02)  # of scores that scatter by ten and more
