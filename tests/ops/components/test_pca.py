"""The PCA operator: scikit-learn's numbers, and a projection that training can move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn import decomposition

from dbx.data import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.components.pca import PCA
from dbx.ops.state import rebuild, state_arrays


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


@pytest.mark.parametrize("projection", ["orthonormal", "gated"])
def test_every_projection_starts_at_the_components(x, projection):
    free, other = fitted(x, n_comps=5), fitted(x, n_comps=5, projection=projection)
    # QR of orthonormal columns: float32 rounding; a gate of 1 changes no bit
    tolerance = 2e-6 if projection == "orthonormal" else 0
    np.testing.assert_allclose(other.loadings, free.loadings, atol=tolerance)
    z, expected = (operator(jnp.asarray(x))["z"] for operator in (other, free))
    np.testing.assert_allclose(z, expected, atol=10 * tolerance)
    again = rebuild(PCA, other.config, state_arrays(other))
    np.testing.assert_array_equal(again(jnp.asarray(x))["z"], z)


def test_a_step_stored_before_there_were_projections_is_a_free_one(x):
    free = fitted(x, n_comps=5)
    old = {name: value for name, value in free.config.items() if name != "projection"}
    again = rebuild(PCA, old, state_arrays(free))
    np.testing.assert_array_equal(again(jnp.asarray(x))["z"], free(jnp.asarray(x))["z"])
    assert set(state_arrays(free)) == {"mean", "components", "residual", "explained", "explained_share"}


def test_orthonormal_loadings_stay_so_and_span_what_the_free_ones_do(x):
    operator = fitted(x, n_comps=5, projection="orthonormal", dtype="float64")
    residual = np.random.default_rng(0).normal(0, 0.3, (40, 5))
    with jax.enable_x64(True):
        graphdef, params, rest = nnx.split(operator, nnx.Param, ...)
        cells = jnp.asarray(x, jnp.float64)

        def scores(residual):
            moved = jax.tree.map(lambda p: jnp.asarray(residual, p.dtype), params)
            return nnx.merge(graphdef, moved, rest, copy=True)(cells)["z"]

        operator.residual = nnx.Param(jnp.asarray(residual))
        loadings, free = operator.loadings, np.asarray(operator.components[...]) + residual
        np.testing.assert_allclose(loadings.T @ loadings, np.eye(5), atol=1e-12)
        np.testing.assert_allclose(loadings @ (loadings.T @ free), free, atol=1e-12)
        assert (np.diagonal(loadings.T @ free) > 0).all()
        z, weight = scores(residual), np.random.default_rng(1).normal(size=(len(x), 5))
        np.testing.assert_allclose(z, (x - x.mean(axis=0, dtype=np.float64)) @ loadings, atol=1e-6)
        params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
        gradient = jax.grad(lambda r: (scores(r) * weight).sum())(jnp.asarray(residual))
        direction, step = np.random.default_rng(2).normal(size=residual.shape), 1e-6
        up, down = ((scores(residual + s * step * direction) * weight).sum() for s in (1, -1))
        np.testing.assert_allclose((gradient * direction).sum(), (up - down) / (2 * step), rtol=1e-6)


def test_gates_shut_components_and_are_priced(x):
    operator = fitted(x, n_comps=5, projection="gated")
    assert float(operator.expected_open()) == pytest.approx(0.98, rel=1e-5)
    noise = operator.jitter(jax.random.key(0))
    assert {name: value.shape for name, value in noise.items()} == {"gates": (5,)}
    before = np.asarray(operator(jnp.asarray(x))["z"])
    operator.gates = nnx.Param(jnp.asarray([9.0, 9.0, -9.0, 0.0, 9.0]))
    z = np.asarray(operator(jnp.asarray(x))["z"])
    np.testing.assert_allclose(z, before * [1, 1, 0, 0.5, 1], atol=1e-5)
    assert float(operator.expected_open()) == pytest.approx((3 + 0.8319) / 5, abs=1e-3)  # logistic of .667 log 11
    operator.settle({"z": z})
    np.testing.assert_allclose(operator.variance, z.var(axis=0, ddof=1), rtol=1e-4, atol=1e-8)
    assert np.isfinite(operator.variance_ratio).all()
    free = fitted(x, n_comps=5)
    assert free.jitter(jax.random.key(0)) == {}
    with pytest.raises(ValueError, match="projection='free' has no gates"):
        free.expected_open()
    with pytest.raises(ValueError, match="projection must be one of 'free', 'orthonormal'"):
        PCA(projection="gate")
    assert set(operator.units) == {"residual", "gates"}
    assert set(free.units) == {"residual"}


def test_variances_stay_where_nothing_was_trained(x):
    for zero_center in (True, False):
        operator = fitted(x, n_comps=4, projection="gated", zero_center=zero_center)
        before = np.array(operator.variance)
        operator.settle(apply(operator, {"x": RowBlocks(x)}, len(x)))
        np.testing.assert_allclose(operator.variance, before, rtol=1e-5)
