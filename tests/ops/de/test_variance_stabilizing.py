"""Variance-stabilising curves against their closed forms, their defining integral and R's splines."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deseq2_reference import deseq2
from scipy.integrate import quad

from dbx.ops.de.dispersion.hermite import interpolate
from dbx.ops.de.dispersion.trend import fit_trend
from dbx.ops.de.variance_stabilizing import _extended, _spline, stabilised, stabilising_curve

# R DESeq2 1.38.3, varianceStabilizingTransformation(blind=FALSE), airway: counts of four genes in three samples
FACTORS = np.array([1.02364764926706, 0.896166721793923, 1.17948612081678])
TREND = np.array([0.00952224033954529, 3.60010273359492])
COUNTS = np.array([[64687.0, 679.0, 1.0, 0.0], [61852.0, 448.0, 2.0, 1.0], [139695.0, 873.0, 0.0, 0.0]])
TRANSFORMED = np.array(
    [
        [15.9529677379, 9.79513352815, 7.04585794028, 6.91614932304],
        [16.079729395, 9.49431222279, 7.11211369081, 7.05477027643],
        [16.8567002124, 9.91678731879, 6.91614932304, 6.91614932304],
    ]
)


def test_parametric_values_are_rs():
    # twelve digits in R's file, fifteen of the factors and the trend
    np.testing.assert_allclose(stabilised(COUNTS, FACTORS, TREND), TRANSFORMED, rtol=1e-10)


@pytest.fixture(scope="module", params=["parametric", "local", "mean"])
def fitted(request):
    """(trend, curve, size factors, normalised counts) of a simulated set."""
    reference = deseq2("nb_6v6")
    table = reference.results
    trend, _ = fit_trend(request.param, table["baseMean"].to_numpy(), table["dispGeneEst"].to_numpy())
    scaled = reference.counts / reference.size_factors
    curve = stabilising_curve(trend, reference.size_factors, scaled.mean(axis=1), scaled.max())
    return trend, curve, reference.size_factors, scaled


def test_slope_is_one_over_the_standard_deviation(fitted):
    trend, curve, factors, scaled = fitted
    q = np.geomspace(2, 0.9 * scaled.max(), 40)
    rise = stabilised(np.array([q * (1 + 1e-4), q * (1 - 1e-4)]), np.ones(2), curve)
    shot = np.mean(1 / factors) if trend.kind == "local" else 1  # the closed forms take all factors as 1
    flat = (rise[0] - rise[1]) / (2e-4 * q) * np.sqrt(shot * q + trend(q) * q**2)
    # a local curve's sums lie half a cell too low, and cells are 1% of q
    np.testing.assert_allclose(flat, flat[0], rtol=5e-3 if trend.kind == "local" else 1e-6)


def test_local_curve_is_log2_between_high_quantiles_of_the_means():
    reference = deseq2("outlier_4v4")
    table = reference.results
    trend, _ = fit_trend("local", table["baseMean"].to_numpy(), table["dispGeneEst"].to_numpy())
    factors, scaled = reference.size_factors, reference.counts / reference.size_factors
    mean = scaled.mean(axis=1)
    curve = stabilising_curve(trend, factors, mean, scaled.max())
    at = np.quantile(mean, [0.95, 0.999])
    np.testing.assert_allclose(stabilised(at[:, None], np.ones(2), curve)[:, 0], np.log2(at), rtol=1e-12)
    middle = np.sqrt(at[0] * at[1])

    def density(u):
        q = np.sinh(np.array([u]))
        return np.cosh(u) / np.sqrt(trend(q) * q**2 + np.mean(1 / factors) * q)[0]

    area = [quad(density, np.arcsinh(at[0]), np.arcsinh(x), epsabs=1e-12)[0] for x in (middle, at[1])]
    expected = np.log2(at[0]) + area[0] / area[1] * np.log2(at[1] / at[0])
    np.testing.assert_allclose(stabilised(np.array([[middle]]), np.ones(1), curve), expected, rtol=3e-4)


def test_curves_rise_and_halves_of_a_count_lie_on_a_line(fitted):
    _, curve, _, scaled = fitted
    counts = np.r_[np.linspace(0, 3, 301), np.geomspace(3.01, 10 * scaled.max(), 300)]
    value = stabilised(counts[None], np.array([0.7]), curve)[0]
    assert (np.diff(value) > 0).all()
    np.testing.assert_allclose(np.diff(value[:51], 2), 0, atol=1e-12)
    assert abs(value[51] - value[50]) < 0.05


def test_jax_agrees_and_gradients_are_finite_at_zero(fitted):
    _, curve, factors, _ = fitted
    counts = np.array([[0.0, 1, 4000], [0, 0, 7]])
    weights = np.array([[1.0, 2, 3], [4, 5, 6]])
    with jax.enable_x64(True):
        arguments = [jnp.asarray(x) for x in (counts, factors[:2], curve)]
        np.testing.assert_allclose(jax.jit(stabilised)(*arguments), stabilised(counts, factors[:2], curve), rtol=1e-12)
        gradients = jax.grad(lambda *x: (stabilised(*x) * weights).sum(), argnums=(0, 1, 2))(*arguments)
    point, rng = (counts, factors[:2], curve), np.random.default_rng(0)
    for which, gradient in enumerate(gradients):
        direction = rng.normal(size=point[which].shape)

        def moved(step, which=which, direction=direction):
            arguments = [x + step * direction if i == which else x for i, x in enumerate(point)]
            return (stabilised(*arguments) * weights).sum()

        numeric = (moved(1e-6) - moved(-1e-6)) / 2e-6
        np.testing.assert_allclose((np.asarray(gradient) * direction).sum(), numeric, rtol=1e-5)


def test_splines_are_rs():
    """splinefun(c(0, 1, 3, 4, 7), c(0, 1, 0, 2, 5)): a cubic through the outer four points at either end."""
    x, y = np.array([0.0, 1, 3, 4, 7]), np.array([0.0, 1, 0, 2, 5])
    knots = _spline(x, y)
    at = np.linspace(0, 7, 200)
    step = at[1] - at[0]
    value = interpolate(knots, at)
    np.testing.assert_allclose(interpolate(knots, x), y, atol=1e-12)
    third = np.diff(value, 3) / step**3
    for points, got in ((x[:4], third[0]), (x[1:], third[-1])):
        cubic = np.polyfit(points, y[np.searchsorted(x, points)], 3)
        np.testing.assert_allclose(got, 6 * cubic[0], rtol=1e-6)
    inner = interpolate(knots, np.array([x[1:-1] - 1e-3, x[1:-1], x[1:-1] + 1e-3]))
    curvature = np.diff(inner, 2, axis=0) / 1e-6
    np.testing.assert_allclose(curvature, [[knots_curvature(knots, i) for i in (1, 2, 3)]], rtol=1e-2, atol=1e-2)


def test_outer_cubics_are_carried_on():
    cubic = np.polynomial.Polynomial([1.0, -2.0, 0.5, 0.25])
    x = np.array([-1.0, 0.5, 2.0])
    knots = _extended(_extended(np.array([x, cubic(x), cubic.deriv()(x)]), -2.0, 0), 5.0, -1)
    at = np.linspace(-2, 5, 40)
    np.testing.assert_allclose(interpolate(knots, at), cubic(at), rtol=1e-10)


def test_a_local_curve_reaches_from_nothing_to_the_largest_count(fitted):
    trend, curve, _, scaled = fitted
    if trend.kind == "local":
        np.testing.assert_allclose(curve[0, [0, -1]], [0, np.arcsinh(scaled.max())])


def knots_curvature(knots, i):
    """Second derivative at a knot from its right-hand cubic."""
    (x0, x1), (y0, y1), (d0, d1) = knots[:, i : i + 2]
    return (6 * (y1 - y0) / (x1 - x0) - 4 * d0 - 2 * d1) / (x1 - x0)


def test_too_few_genes_for_a_local_curve():
    trend, _ = fit_trend("local", np.geomspace(1, 100, 30), np.full(30, 0.1))
    mean = np.r_[np.zeros(970), np.geomspace(1, 100, 30)]
    with pytest.raises(ValueError, match="Only 30 of 1000 genes have counts"):
        stabilising_curve(trend, np.ones(4), mean, 400.0)
