"""The PCA operator: scikit-learn's numbers, and a projection that training can move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn import decomposition

from dbx.data import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.pca import PCA


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    scores = rng.gamma(0.5, 1.0, (150, 6)) * 2.0 ** -np.arange(6)
    return np.log1p(rng.poisson(scores @ rng.gamma(0.5, 1.0, (6, 40)))).astype(np.float32)


def fitted(x, **config):
    operator = PCA(**config)
    operator.fit(x=RowBlocks(x, dtype=config.get("dtype", "float32")))
    return operator


def test_equals_sklearn(x):
    theirs = decomposition.PCA(5, svd_solver="full").fit(x.astype(np.float64))
    ours = fitted(x, n_comps=5)
    # float32 products of 150 rows
    np.testing.assert_allclose(ours.loadings, theirs.components_.T, atol=1e-5)
    np.testing.assert_allclose(ours.variance, theirs.explained_variance_, rtol=1e-5)
    np.testing.assert_allclose(ours.variance_ratio, theirs.explained_variance_ratio_, rtol=1e-5)
    z = apply(ours, {"x": RowBlocks(x)}, len(x))["z"]
    assert z.dtype == np.float32
    np.testing.assert_allclose(z, theirs.transform(x), atol=2e-5)


def test_without_centring_equals_truncated_svd(x):
    theirs = decomposition.TruncatedSVD(5, algorithm="arpack").fit(x.astype(np.float64))
    ours = fitted(x, n_comps=5, zero_center=False)
    np.testing.assert_allclose(ours.loadings, theirs.components_.T, atol=1e-5)
    np.testing.assert_allclose(ours.variance, theirs.explained_variance_, rtol=1e-4)
    np.testing.assert_allclose(ours.variance_ratio, theirs.explained_variance_ratio_, rtol=1e-4)
    np.testing.assert_allclose(ours(jnp.asarray(x))["z"], theirs.transform(x), atol=2e-5)


def test_float64_is_computed_in_float64(x):
    theirs = decomposition.PCA(5, svd_solver="full").fit_transform(x.astype(np.float64))
    ours = fitted(x, n_comps=5, dtype="float64")
    z = apply(ours, {"x": RowBlocks(x, dtype=np.float64)}, len(x))["z"]
    assert z.dtype == np.float64
    np.testing.assert_allclose(z, theirs, atol=1e-11)


def test_the_default_number_of_components_is_scanpys():
    rng = np.random.default_rng(0)
    for shape, expected in {(80, 70): 50, (51, 60): 50, (50, 60): 49, (60, 50): 49, (9, 30): 8, (30, 9): 8}.items():
        assert fitted(rng.normal(size=shape).astype(np.float32)).loadings.shape == (shape[1], expected)


@pytest.mark.parametrize(("config", "most"), [({}, 9), ({"zero_center": False}, 10)])
def test_too_many_components_are_refused_in_words(config, most):
    x = np.random.default_rng(0).normal(size=(10, 30)).astype(np.float32)
    fitted(x, n_comps=most, **config)
    with pytest.raises(ValueError, match=f"10 cells and 30 genes: choose n_comps from 1 to {most}"):
        fitted(x, n_comps=most + 1, **config)


def test_training_starts_at_the_classical_answer(x):
    """Its own objective is least at the fit: the gradient vanishes there, and any other residual is worse."""
    operator = fitted(x, n_comps=5, dtype="float64")
    with jax.enable_x64(True):
        graphdef, params, rest = nnx.split(operator, nnx.Param, ...)
        cells = jnp.asarray(x, jnp.float64)

        def loss(params):
            moved = nnx.merge(graphdef, params, rest, copy=True)
            return moved.loss({"x": cells}, moved(cells)).mean()

        params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
        (start,) = jax.tree.leaves(params)
        assert start.shape == (40, 5)
        assert not start.any()
        (gradient,) = jax.tree.leaves(jax.grad(loss)(params))
        total = float(((x - x.mean(axis=0)) ** 2).sum(axis=1).mean())
        unexplained = (1 - operator.variance_ratio.sum()) * total
        assert abs(float(loss(params)) - unexplained) < 1e-6 * total
        assert float(jnp.abs(gradient).max()) < 1e-6 * total
        rng = np.random.default_rng(0)
        moved = jax.tree.map(lambda p: p + 0.01 * rng.normal(size=p.shape), params)
        assert float(loss(moved)) > float(loss(params))
        # and where it does not vanish, it is the slope
        direction = jax.tree.map(lambda p: rng.normal(size=p.shape), params)
        step = 1e-6
        up, down = (loss(jax.tree.map(lambda p, d, s=s: p + s * step * d, moved, direction)) for s in (1, -1))
        slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), jax.grad(loss)(moved), direction)))
        np.testing.assert_allclose(float(slope), float(up - down) / (2 * step), rtol=1e-6)


def test_a_trained_residual_moves_scores_and_loadings_alike(x):
    operator = fitted(x, n_comps=5)
    before = operator(jnp.asarray(x))["z"]
    residual = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    operator.residual = nnx.Param(jnp.asarray(residual))
    expected = before + (x - x.mean(axis=0)) @ residual
    np.testing.assert_allclose(operator(jnp.asarray(x))["z"], expected, rtol=1e-4, atol=1e-4)
    rest = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(operator(jnp.asarray(x))["z"], rest @ operator.loadings, rtol=1e-4, atol=1e-4)
