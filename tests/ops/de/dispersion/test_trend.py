"""Trends of dispersions against R DESeq2 1.38.3 (locfit 1.5-9.7), from R's own gene-wise dispersions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deseq2_reference import deseq2

from dbx.ops.de.dispersion.hermite import interpolate
from dbx.ops.de.dispersion.local_trend import local_quadratic
from dbx.ops.de.dispersion.trend import Trend, fit_trend, parametric_coefficients


def inputs(name):
    table = deseq2(name).results
    return table["baseMean"].to_numpy(), table["dispGeneEst"].to_numpy()


@pytest.mark.parametrize("name", ["nb_6v6", "nb_3v3"])
def test_parametric_trend_is_rs(name):
    mean, dispersion = inputs(name)
    trend, why = fit_trend("parametric", mean, dispersion)
    assert trend.kind == "parametric"
    assert why is None
    # R's inputs have nine digits; its coefficients, where an iteration was stopped early, come out with them
    expected = list(deseq2(name).meta["trend_coefs"].values())
    np.testing.assert_allclose(trend.coefficients, expected, rtol=1e-9)
    there = mean > 0
    np.testing.assert_allclose(trend(mean)[there], deseq2(name).results["dispFit"][there], rtol=1e-8)
    assert np.isnan(trend(mean)[~there]).all()


def test_local_trend_is_locfits():
    mean, dispersion = inputs("outlier_4v4")
    trend, why = fit_trend("parametric", mean, dispersion)
    assert trend.kind == "local"
    assert "not positive" in why
    there = mean > 0
    # two genes lie below all that entered the fit; nine digits in, and the exponential of a logarithm out
    lowest = mean[dispersion > 1e-6].min()
    assert (mean[there] < lowest).sum() == 2
    np.testing.assert_allclose(trend(mean)[there], deseq2("outlier_4v4").results["dispFit"][there], rtol=3e-8)
    again, why = fit_trend("local", mean, dispersion)
    assert why is None
    np.testing.assert_array_equal(again.coefficients, trend.coefficients)


def test_a_parabola_is_its_own_local_regression():
    x = np.random.default_rng(0).uniform(-2, 5, 300)
    knots = local_quadratic(x, 1 - x + 0.3 * x**2, np.exp(x))
    at = np.linspace(-20, 20, 99)  # beyond the points too
    np.testing.assert_allclose(interpolate(knots, at), 1 - at + 0.3 * at**2, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("x", [[0.0, 0, 0], [0.0, 1], [0.0, 0, 0, 0, 0, 0, 0, 0, 1, 2]])
def test_a_few_points_or_heaps_of_them_give_finite_curves(x):
    knots = local_quadratic(np.array(x), np.arange(len(x)) * 0.5, np.ones(len(x)))
    assert np.isfinite(interpolate(knots, np.linspace(-1, 3, 9))).all()
    assert knots.shape[1] < 100
    if len(set(x)) == 1:
        np.testing.assert_allclose(interpolate(knots, np.array([-9.0, 0.0, 9.0])), 0.5)


def test_mean_trend_is_a_trimmed_mean():
    dispersion = np.r_[np.full(500, 0.1), np.full(490, 0.3), np.full(10, 9.0), 50.0, 2e-8, 5e-7, np.nan, 1e-8]
    trend, _ = fit_trend("mean", np.ones(len(dispersion)), dispersion)
    # 1002 values are above 1e-7; one at each end is trimmed (1e-3 of them)
    np.testing.assert_allclose(trend.coefficients, [(50 + 147 + 90) / 1000], rtol=1e-12)
    np.testing.assert_array_equal(trend(np.array([0.0, 3.0])), [np.nan, trend.coefficients[0]])


def test_genes_far_from_the_trend_do_not_enter_the_next_fit():
    rng = np.random.default_rng(0)
    mean = rng.lognormal(4, 1.5, 800)
    dispersion = (0.1 + 2 / mean) * rng.gamma(4, 1 / 4, 800)
    alone = parametric_coefficients(mean, dispersion)
    spoiled = parametric_coefficients(np.r_[mean, 100, 100], np.r_[dispersion, 9.0, 2e-6])
    np.testing.assert_allclose(spoiled, alone, rtol=1e-5)


def test_a_trend_that_does_not_fit_falls_back_and_says_so():
    mean = np.geomspace(1, 1000, 200)
    trend, why = fit_trend("parametric", mean, 0.01 * mean**0.8)
    assert trend.kind == "local"
    assert "local regression" in why


def test_no_dispersion_above_the_bound_is_an_error():
    with pytest.raises(ValueError, match="No gene varies more than Poisson"):
        fit_trend("parametric", np.ones(4), np.array([1e-8, 1e-6, np.nan, 3e-7]))


@pytest.mark.parametrize("kind", ["parametric", "local", "mean"])
def test_jax_and_numpy_agree_and_slopes_are_right(kind):
    trend, _ = fit_trend(kind, *inputs("nb_6v6"))
    mean = np.array([0.02, 0.7, 5.0, 81.0, 1e4, 1e7])
    with jax.enable_x64(True):
        value = jax.jit(lambda m: trend(m))(jnp.asarray(mean))
        slope = jax.vmap(jax.grad(lambda m: trend(m[None])[0]))(jnp.asarray(mean))
        np.testing.assert_allclose(value, trend(mean), rtol=1e-12)
    numeric = (trend(mean * (1 + 1e-6)) - trend(mean * (1 - 1e-6))) / (2e-6 * mean)
    np.testing.assert_allclose(slope, numeric, rtol=1e-6, atol=1e-9)


def test_a_piecewise_cubic_passes_its_knots_and_goes_on_straight():
    knots = np.array([[0.0, 1.0, 3.0], [1.0, 2.0, -1.0], [0.5, -1.0, 2.0]])
    np.testing.assert_allclose(interpolate(knots, knots[0]), knots[1])
    np.testing.assert_allclose(interpolate(knots, np.array([-2.0, 4.0])), [0.0, 1.0])
    step = 1e-6
    np.testing.assert_allclose(
        (interpolate(knots, knots[0] + step) - interpolate(knots, knots[0] - step)) / (2 * step), knots[2], atol=1e-5
    )
    cubic = np.polynomial.Polynomial([1.0, -2.0, 0.5, 0.25])
    at = np.array([-1.0, 0.5, 4.0])
    inside = np.linspace(-1, 4, 31)
    np.testing.assert_allclose(interpolate(np.array([at, cubic(at), cubic.deriv()(at)]), inside), cubic(inside))


def test_a_trend_is_a_plain_pair():
    kind, coefficients = Trend("mean", np.array([0.5]))
    assert (kind, *coefficients) == ("mean", 0.5)
