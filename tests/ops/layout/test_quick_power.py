"""The quick power beside NumPy's in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dbx.ops.layout.quick_power import quick_power
from dbx.ops.layout.umap_layout import Curve

SQUARED = np.concatenate([10.0 ** np.linspace(-9, 6, 5_000), 2.0 ** np.arange(-20, 20)]).astype(np.float32)


@pytest.mark.parametrize("exponent", [0.2, 0.7900494, 1.3341669, 3.0, -0.5])
def test_five_digits(exponent):
    ours = jax.jit(quick_power)(SQUARED, jnp.float32(exponent))
    np.testing.assert_allclose(ours, SQUARED.astype(np.float64) ** exponent, rtol=2e-5 * max(exponent, 1))


def test_beyond_the_range_of_float32():
    ours = np.asarray(quick_power(jnp.asarray([0, 1e-38, 1e38, 1], jnp.float32), 4.0))
    assert np.isfinite(ours).all()
    assert (ours >= 0).all()
    assert ours[0] < 1e-37
    assert ours[2] > 1e37


@pytest.mark.parametrize(("min_dist", "gamma"), [(0.5, 1.0), (0.01, 2.0)])
def test_the_curve_of_a_layout(min_dist, gamma):
    curve = Curve.of(min_dist, 1.0, None, None, gamma)
    np.testing.assert_allclose(curve.quick_pull(SQUARED), curve.pull(SQUARED), rtol=5e-5)
    np.testing.assert_allclose(curve.quick_push(SQUARED), curve.push(SQUARED), rtol=5e-5)
    at_zero = np.array([curve.quick_pull(jnp.zeros(1))[0] * 0.0, curve.quick_push(jnp.zeros(1))[0] * 0.0])
    assert not at_zero.any()  # cells at the same position do not move each other
