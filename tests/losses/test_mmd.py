import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from dbx.losses.mmd import SCALES, mmd


def by_hand(z, codes, weights, n_batches):
    """Sums over all pairs of different cells, in float64 NumPy."""
    square = cdist(z, z) ** 2
    unit = np.median(square)
    kernel = np.mean([np.exp(-square / (2 * s * unit)) for s in SCALES], axis=0)
    values = []
    for a in range(n_batches):
        for b in range(a):
            total = 0.0
            for p, q, sign in ((a, a, 1), (b, b, 1), (a, b, -2)):
                u = np.where(codes == p, weights[:, b if p == a else a], 0)
                v = np.where(codes == q, weights[:, b if q == a else a], 0)
                pairs = u[:, None] * v * (1 - np.eye(len(z)))
                total += sign * (pairs * kernel).sum() / pairs.sum()
            values.append(total)
    return np.mean(values)


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 90)
    z = rng.normal(size=(90, 4)) + codes[:, None] * [0.4, 0, 0, -0.2]
    return z.astype(np.float32), codes, rng.uniform(0.1, 2, (90, 3)).astype(np.float32)


def test_is_the_unbiased_estimate_over_all_pairs_of_batches(cells):
    z, codes, weights = cells
    membership = jnp.eye(3)[codes]
    assert float(mmd(z, membership)) == pytest.approx(by_hand(z, codes, np.ones((90, 3)), 3), rel=1e-3)
    assert float(mmd(z, membership, weights)) == pytest.approx(by_hand(z, codes, weights, 3), rel=1e-3)


def test_zero_on_average_where_batches_agree_and_positive_where_not():
    rng = np.random.default_rng(1)
    value = jax.jit(mmd)
    membership = jnp.eye(2)[np.repeat([0, 1], 32)]
    same = [float(value(rng.normal(size=(64, 3)).astype(np.float32), membership)) for _ in range(200)]
    assert abs(np.mean(same)) < 4 * np.std(same) / np.sqrt(200)
    apart = rng.normal(size=(64, 3)) + np.repeat([0, 1], 32)[:, None]
    assert float(value(apart.astype(np.float32), membership)) > 10 * np.std(same)


def test_shrinking_wins_nothing(cells):
    z, codes, _ = cells
    membership = jnp.eye(3)[codes]
    value, slope = jax.value_and_grad(mmd)(jnp.asarray(z), membership)
    assert float(mmd(0.01 * z, membership)) == pytest.approx(float(value), rel=1e-3)
    assert np.isfinite(slope).all()
    assert np.isfinite(jax.grad(mmd)(jnp.zeros((90, 4)), membership)).all()  # all cells in one place


def test_batches_without_cells_take_no_part(cells):
    z, codes, _ = cells
    two = codes < 2
    whole = mmd(z[two], jnp.eye(4)[codes[two]])
    assert float(whole) == pytest.approx(float(mmd(z[two], jnp.eye(2)[codes[two]])), rel=1e-5)
    assert float(mmd(z, jnp.ones((90, 1)))) == 0
