"""Fits and their derivatives: optima checked by what defines them, derivatives by finite differences in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deseq2_reference import deseq2
from scipy import optimize, stats

from dbx.ops.de.fit.implicit import coefficients, fold_changes
from dbx.ops.de.fit.size_factors import median_of_ratios

N, GENES = 9, 8
RNG = np.random.default_rng(1)
DESIGN = np.column_stack([np.ones(N), np.arange(N) % 2, RNG.normal(size=N)])
FACTORS = RNG.uniform(0.5, 2, N)
DISPERSION = np.array([1e-8, 1e-3, 0.02, 0.1, 0.3, 1, 3, 0.5])
MU = FACTORS * np.exp(np.linspace(0.5, 7, GENES)[:, None] + RNG.normal(size=(GENES, 2)) @ DESIGN[:, 1:].T)
Y = RNG.negative_binomial(1 / DISPERSION[:, None], 1 / (1 + DISPERSION[:, None] * MU)).astype(np.float64)
Y[-1, DESIGN[:, 1] == 0] = 0  # a gene that is absent from one level: the prior alone holds its coefficient
DIRECTIONS = RNG.normal(size=(GENES, N)), RNG.normal(size=DESIGN.shape), RNG.normal(size=N), RNG.normal(size=GENES)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def assert_derivatives(function, arguments, tangents, step=1e-3):
    """jvp, in each argument alone, against differences; vjp against jvp."""
    function = jax.jit(function)
    values = function(*arguments)
    weights = np.random.default_rng(2).normal(size=values.shape)

    @jax.jit
    def derivatives(tangents):
        _, pull = jax.vjp(function, *arguments)
        backward = sum((pulled * t).sum() for pulled, t in zip(pull(weights), tangents, strict=True))
        return jax.jvp(function, arguments, tangents)[1], backward

    for which in range(len(arguments)):
        moved = tuple(t if i == which else np.zeros_like(t) for i, t in enumerate(tangents))
        at = {h: function(*(a + h * step * t for a, t in zip(arguments, moved, strict=True))) for h in (-2, -1, 1, 2)}
        numeric = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * step)
        forward, backward = derivatives(moved)
        # truncation of relative order step^4; rounding 1e-12 of the value over the step
        np.testing.assert_allclose(forward, numeric, rtol=1e-6, atol=3e-9 * np.abs(values).max())
        np.testing.assert_allclose(backward, (weights * forward).sum(), rtol=1e-7, atol=1e-12)


def test_coefficients_are_scipys_maximum():
    beta = np.asarray(coefficients(Y, DESIGN, FACTORS, DISPERSION))[1:-1]
    for y, alpha, found in zip(Y[1:-1], DISPERSION[1:-1], beta, strict=True):

        def loss(b, y=y, alpha=alpha):
            mu = FACTORS * np.exp(DESIGN @ b)
            return -stats.nbinom.logpmf(y, 1 / alpha, 1 / (1 + alpha * mu)).sum()

        theirs = optimize.minimize(loss, found + 0.1, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10})
        assert loss(found) <= theirs.fun + 1e-9
        np.testing.assert_allclose(found, theirs.x, atol=1e-4)  # the square root of scipy's tolerance


def test_coefficients_are_those_of_deseq2():
    r = deseq2("nb_6v6")
    theirs, error = (r.results.filter(like=kind).to_numpy() * np.log(2) for kind in ("beta_", "SE_"))
    found = coefficients(r.counts, r.design, r.size_factors, r.results["dispersion"].to_numpy(), min_mu=0.5)
    # R stops when the deviance changes by less than 1e-8 of itself, some 1e-4 standard errors before the end
    off = np.abs(found - theirs) / error
    assert len(found) == 2000
    assert np.median(off) < 1e-4
    assert off.max() < 5e-3


def test_one_mean_has_a_closed_form():
    """Poisson counts with an intercept: log(sum y / sum s), whose derivatives are known."""
    one, tiny = np.ones((N, 1)), np.full(GENES, 1e-8)
    value = coefficients(Y, one, FACTORS, tiny)[:, 0]
    np.testing.assert_allclose(value, np.log(Y.sum(axis=1) / FACTORS.sum()), rtol=1e-5)
    of_factors = jax.jit(jax.jacfwd(lambda s: coefficients(Y, one, s, tiny)[:, 0]))(FACTORS)
    np.testing.assert_allclose(of_factors, np.full((GENES, N), -1 / FACTORS.sum()), rtol=1e-3)
    of_counts = jax.jit(jax.grad(lambda y: coefficients(y, one, FACTORS, tiny).sum()))(Y)
    np.testing.assert_allclose(of_counts, 1 / Y.sum(axis=1, keepdims=True) * np.ones(N), rtol=1e-3)


@pytest.mark.parametrize("min_mu", [0.0, 20.0])
def test_derivatives_of_coefficients(min_mu):
    present = slice(-1)
    tangents = (
        (DIRECTIONS[0] * Y)[present] / 3,
        DIRECTIONS[1] / 10,
        DIRECTIONS[2],
        (DIRECTIONS[3] * DISPERSION)[present],
    )
    arguments = Y[present], DESIGN, FACTORS, DISPERSION[present]
    assert_derivatives(lambda *a: coefficients(*a, min_mu=min_mu), arguments, tangents)


def test_derivatives_of_a_gene_that_one_level_lacks():
    assert_derivatives(
        lambda s, a: coefficients(Y[-1:], DESIGN, s, a), (FACTORS, DISPERSION[-1:]), (DIRECTIONS[2], np.ones(1))
    )


def test_the_floor_makes_a_difference_where_means_are_below_it():
    plain, floored = (np.asarray(coefficients(Y, DESIGN, FACTORS, DISPERSION, min_mu=m)) for m in (0.0, 0.5))
    below = (FACTORS * np.exp(plain @ DESIGN.T) < 0.5).any(axis=1)
    assert below.any()
    assert (~below).any()
    np.testing.assert_allclose(floored[~below], plain[~below], rtol=1e-9)
    assert (np.abs(floored - plain).max(axis=1)[below] > 1e-3).all()


@pytest.mark.parametrize("seed", [1002, 1005, 1015, 1054])  # each has a gene for which Newton's steps are far too long
def test_hard_genes_reach_their_maximum(seed):
    """Counts to 1e6 beside zeros, dispersions from 1e-8 to 1e3: the slope is zero, to its own rounding."""
    rng = np.random.default_rng(seed)
    y = np.exp(rng.uniform(0, 14, (200, N))).round() * (rng.random((200, N)) < 0.5)
    dispersion = 10.0 ** rng.uniform(-8, 3, 200)
    for min_mu in (0.0, 0.5):
        beta = np.asarray(coefficients(y, DESIGN, FACTORS, dispersion, min_mu=min_mu))
        assert np.isfinite(beta).all()
        if min_mu == 0:
            mu, alpha = FACTORS * np.exp(beta @ DESIGN.T), dispersion[:, None]
            slope = (y - mu) / (1 + alpha * mu)
            error = np.sqrt((mu / (1 + alpha * mu)) @ DESIGN**2)
            prior = 1e-6 / np.log(2) ** 2 * beta
            assert (np.abs(slope @ DESIGN - prior) < 1e-6 * (1 + error)).all()


def test_fits_are_mapped_over():
    batch = FACTORS * np.array([[1.0], [1.5]])
    both = jax.jit(jax.vmap(lambda s: coefficients(Y, DESIGN, s, DISPERSION)))(batch)
    for one, s in zip(both, batch, strict=True):
        np.testing.assert_allclose(one, coefficients(Y, DESIGN, s, DISPERSION), rtol=1e-9, atol=1e-9)


def test_second_derivatives():
    def first(s):
        return jax.jvp(lambda s: coefficients(Y[3:5], DESIGN, s, DISPERSION[3:5]), (s,), (DIRECTIONS[2],))[1]

    assert_derivatives(first, (FACTORS,), (DIRECTIONS[2],))


def test_derivatives_of_size_factors():
    """Medians over an odd and an even number of ratios; the references held, and moving with the counts."""
    rng = np.random.default_rng(3)
    for n_genes in (7, 8):
        counts = rng.uniform(1, 50, (N, n_genes))
        counts[0, 0] = 0  # no ratio
        tangent = rng.normal(size=counts.shape)
        references = np.log(np.maximum(counts, 1)).mean(axis=0)
        references[1] = np.nan
        assert_derivatives(lambda c, r=references: median_of_ratios(c, r), (jnp.asarray(counts),), (tangent,))
        whole = jnp.asarray(counts[1:])
        assert_derivatives(lambda c: median_of_ratios(c, jnp.log(c).mean(axis=0)), (whole,), (tangent[1:],))


def test_genes_without_a_dispersion_have_no_fold_change_and_no_derivative():
    weights, gone = np.array([0, 1.0, 0]), np.where(np.arange(GENES) == 3, np.nan, DISPERSION)
    kept = np.arange(GENES) != 3
    found = np.asarray(fold_changes(Y.T, DESIGN, weights, FACTORS, gone))
    assert np.isnan(found[3])
    every = np.asarray(coefficients(Y, DESIGN, FACTORS, DISPERSION))
    np.testing.assert_allclose(found[kept], every[kept, 1] / np.log(2), rtol=1e-12)
    slope = jax.jit(jax.grad(lambda c, s: jnp.nansum(fold_changes(c, DESIGN, weights, s, gone)), argnums=(0, 1)))
    of_counts, of_factors = slope(Y.T, FACTORS)
    np.testing.assert_array_equal(of_counts[:, 3], 0)
    assert (np.abs(of_counts[:, kept]).max(axis=0) > 0).all()
    assert np.isfinite(of_factors).all()


def test_derivatives_go_through_size_factors():
    """From counts to size factors to fold changes."""

    def fit(counts):
        factors = median_of_ratios(counts, jnp.log(counts).mean(axis=0))
        return fold_changes(counts, DESIGN, np.array([0, 1.0, 0]), factors, DISPERSION[4:7])

    assert_derivatives(fit, (jnp.asarray(Y[4:7].T + 1),), ((DIRECTIONS[0][4:7] * Y[4:7] / 3).T,))
