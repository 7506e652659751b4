"""Objectives of sets of cells: against scikit-learn and by hand, and that scaling an embedding gains nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from dbx.losses import batch_mixing, compactness, velocity_consistency
from dbx.losses.neighbourhoods import neighbourhoods


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    groups, batch = np.arange(96) % 3, rng.integers(0, 2, 96)
    z = rng.normal(0, 1, (96, 4)) + 3 * np.eye(3, 4)[groups] + 0.8 * batch[:, None]
    return z.astype(np.float32), groups.astype(np.int32), batch.astype(np.int32)


def test_neighbourhoods_are_gaussians_over_the_nearest(cells):
    z, _, _ = cells
    near = np.asarray(neighbourhoods(z, nearest=1 / 16))
    distances, indices = NearestNeighbors(n_neighbors=7).fit(z).kneighbors(z)
    square = distances[:, 1:] ** 2
    weights = np.exp(-square / square.mean(axis=1, keepdims=True))
    expected = np.zeros((96, 96))
    np.put_along_axis(expected, indices[:, 1:], weights / weights.sum(axis=1, keepdims=True), axis=1)
    np.testing.assert_allclose(near, expected, atol=2e-5)


def test_a_cell_that_is_there_twice_is_no_neighbour_of_itself(cells):
    z, _, _ = cells
    rows = np.r_[np.arange(96), 5]
    near = np.asarray(neighbourhoods(np.r_[z, z[5:6]], rows))
    assert near[5, 96] == near[96, 5] == 0
    np.testing.assert_allclose(near.sum(axis=1), 1, rtol=1e-5)


def test_batches_apart_cost_the_logarithm_of_their_share_and_mixed_ones_nothing(cells):
    z, _, _ = cells
    share = np.array([0.25, 0.75], np.float32)
    apart = np.where(np.arange(96) < 24, 0, 1)
    far = np.asarray(batch_mixing(z + 100 * apart[:, None], apart, share))
    np.testing.assert_allclose(far, -np.log(share[apart]), atol=1e-4)
    # of one cell, by hand
    near = np.asarray(neighbourhoods(z))
    around = np.array([near[3, apart == 0].sum(), near[3, apart == 1].sum()])
    by_hand = sum(p * np.log(p / s) for p, s in zip(around, share, strict=True) if p > 0)
    assert float(batch_mixing(z, apart, share)[3]) == pytest.approx(by_hand, abs=1e-4)
    every = np.asarray(batch_mixing(np.repeat(z[:32], 3, axis=0) + 1e-3 * z, np.arange(96) % 3, np.full(3, 1 / 3)))
    assert every.mean() < 0.2
    missing = np.where(np.arange(96) == 7, -1, apart)
    found = np.asarray(batch_mixing(z, missing, share))
    assert found[7] == 0


def test_compactness_is_the_share_of_variance_within(cells):
    z, groups, _ = cells
    # over pairs: twice the sum of squares about the mean, of all and of each group
    total = ((z - z.mean(axis=0)) ** 2).sum() * 2 / 95
    within = [2 * ((z[groups == g] - z[groups == g].mean(axis=0)) ** 2).sum() / 31 for g in range(3)]
    found = np.asarray(compactness(z, groups))
    assert found.mean() == pytest.approx(np.mean(within) / total, rel=1e-4)
    alone = np.where(np.arange(96) == 4, 9, groups)
    assert float(compactness(z, alone)[4]) == 1
    assert float(compactness(z, np.where(np.arange(96) == 4, -1, groups))[4]) == 1
    assert np.asarray(compactness(z, np.random.default_rng(1).permutation(groups))).mean() == pytest.approx(1, abs=0.1)


def test_velocities_of_one_direction_agree(cells):
    z, _, _ = cells
    rng = np.random.default_rng(2)
    same = np.outer(rng.uniform(0.5, 2, 96), [1, 2, 0, 1]).astype(np.float32)
    np.testing.assert_allclose(velocity_consistency(z, same), 0, atol=1e-5)
    np.testing.assert_allclose(velocity_consistency(z, np.zeros_like(z)), 1)
    v = rng.normal(size=z.shape).astype(np.float32)
    unit = v / np.linalg.norm(v, axis=1, keepdims=True)
    near = np.asarray(neighbourhoods(z))
    np.testing.assert_allclose(velocity_consistency(z, v), 1 - (near * (unit @ unit.T)).sum(axis=1), atol=1e-5)


@pytest.mark.parametrize("name", ["mixing", "compactness", "velocity"])
def test_scaling_the_embedding_gains_nothing(cells, name):
    z, groups, batch = cells
    share, v = np.bincount(batch) / 96, jnp.asarray(np.roll(z, 1, axis=0))
    loss = {
        "mixing": lambda z: batch_mixing(z, batch, share).mean(),
        "compactness": lambda z: compactness(z, groups).mean(),
        "velocity": lambda z: velocity_consistency(z, v).mean(),
    }[name]
    for factor in (0.01, 1e3):
        assert float(loss(factor * z)) == pytest.approx(float(loss(z)), rel=1e-3)
    gradient = np.asarray(jax.grad(loss)(jnp.asarray(z)))
    towards = (gradient * (z - z.mean(axis=0))).sum() / np.linalg.norm(gradient) / np.linalg.norm(z - z.mean(axis=0))
    assert abs(towards) < 1e-3
    assert np.linalg.norm(gradient) > 1e-4


@pytest.mark.parametrize("name", ["mixing", "compactness", "velocity"])
def test_gradients_are_finite_differences(cells, name):
    z, groups, batch = cells
    with jax.enable_x64(True):
        z = jnp.asarray(z, jnp.float64)
        share, v = jnp.asarray(np.bincount(batch) / 96), jnp.roll(z, 1, axis=0)
        loss = {
            "mixing": lambda z: batch_mixing(z, batch, share).sum(),
            "compactness": lambda z: compactness(z, groups).sum(),
            "velocity": lambda z: velocity_consistency(z, v).sum(),
        }[name]
        direction = jnp.asarray(np.random.default_rng(3).normal(size=z.shape))
        numeric = (loss(z + 1e-6 * direction) - loss(z - 1e-6 * direction)) / 2e-6
        assert float((jax.grad(loss)(z) * direction).sum()) == pytest.approx(float(numeric), rel=1e-4)
