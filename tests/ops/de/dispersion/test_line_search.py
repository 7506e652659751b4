"""Dispersions where DESeq2's search ends, and where the likelihood is largest."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from dbx.ops.de.dispersion import line_search as search
from dbx.ops.de.dispersion.line_search import search_dispersions
from dbx.ops.de.dispersion.moments import base_moments, first_guess
from dbx.ops.de.dispersion.optimal_dispersion import _zero, optimal_dispersions
from dbx.ops.de.dispersion.posterior import MIN_DISPERSION, Posterior, Prior, largest
from dbx.ops.de.glm import genes as gene_blocks
from dbx.ops.de.glm.genes import GeneCounts
from dbx.ops.de.glm.regression import regression

N = 12
DESIGN = np.column_stack([np.ones(N), np.arange(N) % 2, np.linspace(-1, 1, N)])


@pytest.fixture(scope="module")
def genes():
    """(counts, means of shape (n_genes, n_samples), dispersions to start from) of genes of many dispersions."""
    rng = np.random.default_rng(0)
    dispersion = np.geomspace(0.01, 4, 40)[:, None]
    mu = rng.gamma(3, 20, (40, 1)) * rng.lognormal(0, 0.4, (40, N))
    y = rng.negative_binomial(1 / dispersion, 1 / (1 + dispersion * mu)).astype(float)
    y[5:8] = np.rint(mu[5:8])  # less dispersed than Poisson
    return y, mu, np.clip(dispersion[:, 0] * rng.lognormal(0, 1, 40), 1e-4, 10)


def height(x, y, mu, prior_mean=0.0, precision=0.0):
    """The Cox-Reid adjusted likelihood of one gene at a log dispersion, by its definition."""
    n = np.exp(-x)
    weight = mu / (1 + mu / n)
    adjustment = np.linalg.slogdet(DESIGN.T @ (weight[:, None] * DESIGN))[1] / 2
    return stats.nbinom.logpmf(y, n, n / (n + mu)).sum() - adjustment - precision * (x - prior_mean) ** 2 / 2


def slope(x, *given):
    return (height(x + 1e-5, *given) - height(x - 1e-5, *given)) / 2e-5


def line_search(start, bound, *given, has_prior):
    """DESeq2's search one gene at a time, with slopes by differences; (dispersion, whether the grid is needed)."""
    x = np.log(start)
    at, kappa, accepted = height(x, *given), 1.0, 0
    first, by, n_iter = at, slope(x, *given), 0
    while n_iter < 100:
        n_iter += 1
        step = kappa * by
        if x + step < -30:
            kappa = (-30 - x) / by
        if x + step > 10:
            kappa = (10 - x) / by
        there = height(x + kappa * by, *given)
        if -there <= -at - kappa * 1e-4 * by**2:
            accepted += 1
            x += kappa * by
            change, at = there - at, there
            if change < 1e-6 or x < np.log(1e-9):
                break
            by = slope(x, *given)
            kappa = min(1.1 * kappa, 1)
            if accepted % 5 == 0:
                kappa /= 2
        else:
            kappa /= 2
    found, lost = min(np.exp(x), bound), n_iter == 100
    if not has_prior:
        if at < first + abs(first) / 1e6:
            found = start
        lost = (lost or n_iter == 1) and found > 1e-7
    return np.clip(found, 1e-8, bound), lost


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("has_prior", [False, True])
def test_the_search_takes_deseq2_s_steps(genes, has_prior, compiled, monkeypatch):
    if compiled:
        monkeypatch.setattr(gene_blocks, "HOST_VALUES", 0)
    y, mu, start = genes
    prior = Prior(np.log(start) + 0.5, 0.7) if has_prior else None
    model, counts = regression(DESIGN, np.ones(N)), GeneCounts.of(y)
    ours = search_dispersions(counts, lambda at: mu[at], model, start, prior)
    for g in range(len(y)):
        given = (y[g], mu[g], *((prior.log_mean[g], 1 / prior.variance) if has_prior else ()))
        theirs, lost = line_search(start[g], 12.0, *given, has_prior=has_prior)
        if not lost:
            np.testing.assert_allclose(ours[g], theirs, rtol=1e-5, atol=1e-8)
        else:  # the best of a fine grid
            grid = np.linspace(np.log(1e-8), np.log(12), 20)
            best = grid[np.argmax([height(x, *given) for x in grid])]
            fine = best + np.linspace(-1, 1, 20) * (grid[1] - grid[0])
            best = np.exp(fine[np.argmax([height(x, *given) for x in fine])])
            np.testing.assert_allclose(ours[g], np.clip(best, 1e-8, 12), rtol=1e-9)


def test_no_step_leaves_the_bounds(genes):
    """A narrow prior far away makes for steps of hundreds, which end at the bound."""
    y, mu, start = genes
    prior = Prior(np.full(40, -18.0), 0.05)
    ours = search_dispersions(GeneCounts.of(y), lambda at: mu[at], regression(DESIGN, np.ones(N)), start, prior)
    for g in range(len(y)):
        theirs, lost = line_search(start[g], 12.0, y[g], mu[g], -18.0, 1 / 0.05, has_prior=True)
        assert not lost
        np.testing.assert_allclose(ours[g], theirs, rtol=1e-5)
    assert (ours == 1e-8).sum() > 20


def test_a_gene_that_starts_at_the_floor_stays_there(genes):
    """The trap: in the logarithm the likelihood is flat there, whatever it says elsewhere."""
    y, mu, _ = genes
    frozen = search_dispersions(
        GeneCounts.of(y), lambda at: mu[at], regression(DESIGN, np.ones(N)), np.full(40, MIN_DISPERSION)
    )
    assert (frozen[-10:] <= 2e-8).all()  # their dispersions are above one
    optimal = optimal_dispersions(GeneCounts.of(y), lambda at: mu[at], regression(DESIGN, np.ones(N)))
    assert (optimal[-10:] > 0.5).all()


def test_a_lost_search_is_decided_by_a_grid(genes, monkeypatch):
    y, mu, start = genes
    monkeypatch.setattr(search, "MAX_ITER", 1)
    ours = search_dispersions(GeneCounts.of(y), lambda at: mu[at], regression(DESIGN, np.ones(N)), start)
    grid = np.linspace(np.log(1e-8), np.log(12), 20)
    for g in range(10, 40):
        heights = [height(x, y[g], mu[g]) for x in grid]
        fine = grid[np.argmax(heights)] + np.linspace(-1, 1, 20) * (grid[1] - grid[0])
        best = fine[np.argmax([height(x, y[g], mu[g]) for x in fine])]
        np.testing.assert_allclose(ours[g], np.exp(min(best, np.log(12))), rtol=1e-9)


@pytest.mark.parametrize("has_prior", [False, True])
def test_exact_dispersions_are_the_maxima_scipy_finds(genes, has_prior):
    y, mu, start = genes
    prior = Prior(np.log(start), 0.4) if has_prior else None
    ours = optimal_dispersions(GeneCounts.of(y), lambda at: mu[at], regression(DESIGN, np.ones(N)), prior)
    for g in range(len(y)):
        given = (y[g], mu[g], *((prior.log_mean[g], 1 / prior.variance) if has_prior else ()))
        grid = np.linspace(np.log(MIN_DISPERSION), np.log(12), 60)
        near = np.argmax([height(x, *given) for x in grid])
        bounds = grid[max(near - 1, 0)], grid[min(near + 1, 59)]
        theirs = optimize.minimize_scalar(lambda x, given=given: -height(x, *given), bounds=bounds, method="bounded")
        # near the floor scipy's log gammas lose their digits
        assert -height(np.log(ours[g]), *given) <= theirs.fun + (1e-8 if ours[g] > 1e-4 else 1e-5)
        if ours[g] > 1e-3:  # scipy compares heights, which differ in the sixteenth digit
            np.testing.assert_allclose(ours[g], np.exp(theirs.x), rtol=1e-4)
    if not has_prior:
        np.testing.assert_allclose(ours[5:8], MIN_DISPERSION, rtol=1e-6)


def test_zeros_of_steep_and_flat_slopes():
    """Where false position creeps a bisection every third time helps; without a zero inside it is an end."""
    with jax.enable_x64(True):
        low, high = jnp.full(4, -18.0, jnp.float64), jnp.full(4, 2.5, jnp.float64)
        root = jnp.array([0.3, -17.9, -30.0, 9.0])
        found = np.asarray(
            _zero(lambda x: -jnp.sign(x - root) * jnp.abs(x - root) ** jnp.array([5, 0.1, 1, 1]), low, high)
        )
    np.testing.assert_allclose(found, [0.3, -17.9, -18, 2.5], atol=1e-6)


def test_bounds(genes):
    y, mu, _ = genes
    wild = np.zeros((2, N))
    wild[:, 0] = 40_000
    means = np.full((2, N), 2.0)
    for find in (
        lambda: search_dispersions(
            GeneCounts.of(wild), lambda at: means[at], regression(DESIGN, np.ones(N)), np.ones(2)
        ),
        lambda: optimal_dispersions(GeneCounts.of(wild), lambda at: means[at], regression(DESIGN, np.ones(N))),
    ):
        np.testing.assert_allclose(find(), 12.0, rtol=1e-6)
    assert (largest(5), largest(11)) == (10.0, 11.0)
    assert y.shape == mu.shape


def test_the_posterior_by_its_definition(genes):
    y, mu, start = genes
    prior = Prior(np.log(start) - 1, 0.3)
    x, all_genes = np.log(start), np.arange(40)
    for given in (None, prior):
        profile = Posterior(GeneCounts.of(y), lambda at: mu[at], regression(DESIGN, np.ones(N)), given)
        heights, slopes = profile.at(x, all_genes)
        moved, _ = profile.at(x + 0.3, all_genes)
        for g in all_genes:
            of = (y[g], mu[g], *((prior.log_mean[g], 1 / prior.variance) if given else ()))
            # ours lacks what the dispersion is not in
            np.testing.assert_allclose(moved[g] - heights[g], height(x[g] + 0.3, *of) - height(x[g], *of), atol=1e-7)
            np.testing.assert_allclose(slopes[g], slope(x[g], *of), rtol=1e-4, atol=1e-4)
        rounded = search._rounded(x, profile, all_genes)
        np.testing.assert_allclose(rounded[1], slopes, rtol=1e-7, atol=1e-7)
        constant = rounded[0] - heights
        again = search._rounded(x + 0.3, profile, all_genes)[0] - moved
        np.testing.assert_allclose(constant, again, atol=1e-6)


def test_log_gammas_of_large_numbers():
    x = np.array([0.3, 12.0, 9e3, 1.1e4, 1e8])
    np.testing.assert_allclose(search._log_gamma(x), [math.lgamma(value) for value in x], rtol=1e-14)


def test_first_guesses_by_their_definition():
    rng = np.random.default_rng(1)
    size = rng.lognormal(0, 0.4, N)
    y = rng.negative_binomial(2, 0.05, (30, N)).astype(float)
    y[:3] = rng.poisson(40, (3, N))
    y[3:6] = rng.poisson(0.4, (3, N))
    y[3:6, 0] = 1
    y[6] = np.eye(N)[0] * 4  # fitted means below one are taken as one
    scaled = y / size
    fitted = np.maximum(DESIGN @ np.linalg.lstsq(DESIGN, scaled.T, rcond=None)[0], 1).T
    rough = (((scaled - fitted) ** 2 - fitted) / fitted**2).sum(axis=1) / (N - 3)
    mean, variance = scaled.mean(axis=1), scaled.var(axis=1, ddof=1)
    by_moments = (variance - (1 / size).mean() * mean) / mean**2
    expected = np.clip(np.minimum(np.maximum(rough, 0), by_moments), 1e-8, 12)
    guess = first_guess(y, DESIGN, size)
    np.testing.assert_allclose(guess, expected, rtol=1e-10)
    assert (guess == 1e-8).any()
    assert np.isclose(guess, rough, rtol=1e-10).any()
    found = base_moments(GeneCounts.of(y), size)
    np.testing.assert_allclose(found[0], mean, rtol=1e-12)
    np.testing.assert_allclose(found[1], variance, rtol=1e-12)
