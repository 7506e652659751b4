"""The differentiable mean of simulated counts: equal to the mean of draws, to NumPy, and to finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dbx.datasets import expected_counts, simulate, truth
from dbx.datasets.draws import draw_truth
from dbx.datasets.splat import draw_counts

SETTINGS = {
    "groups": {},
    "varied": {"bcv_trend": 0.5, "dispersion_df": 8.0, "outlier_probability": 0.1},
    "dropout": {"dropout_mid": 0.5, "dropout_shape": -1.5, "dispersion": 0.6, "bcv_trend": 0.2},
    "paths": {"paths": "bifurcation", "switch_genes": 4, "path_nonlinear": 0.4, "path_steps": 7},
    "classes": {"differential_distribution": {"DE": 5, "DB": 5, "DP": 3}},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_mean_of_draws(name):
    """400 draws of the counts of one truth: deviations in units of their own errors are those of chance."""
    adata = simulate(40, 30, 3, 2, seed=3, library_size=300, **SETTINGS[name])
    found = np.asarray(expected_counts(truth(adata)))
    fixed = draw_truth(adata.uns["simulate"])
    if fixed.distributions is not None:  # the same components in every draw
        factors = fixed.cell_factors(slice(0, 40), 3)
        fixed.cell_factors = lambda cells, seed: factors[cells]
    draws = np.array([draw_counts(fixed, seed)["X"].toarray() for seed in range(400)], np.float64)
    error = draws.std(axis=0, ddof=1) / 20
    often = found > 0.2  # rarer counts are not normal after 400 draws
    z = (draws.mean(axis=0) - found)[often] / error[often]
    assert often.mean() > 0.5
    assert abs(z.mean()) < 0.15
    assert np.sqrt((z**2).mean()) < 1.15
    assert found.sum() == pytest.approx(draws.mean(axis=0).sum(), rel=0.01)


def test_without_dropout_it_sums_to_the_library_size():
    adata = simulate(20, 30, 3, 2, seed=1)
    params = truth(adata)
    found = np.asarray(expected_counts(params))
    np.testing.assert_allclose(found.sum(axis=1), adata.obs["library_size"], rtol=1e-5)
    relative = params["mean"] * params["group_factors"][params["group"]] * params["batch_factors"][params["batch"]]
    by_hand = params["library_size"][:, None] * relative / relative.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, by_hand, rtol=1e-5)


def test_dropout_takes_more_where_the_mean_is_lower():
    adata = simulate(60, 200, 1, 1, seed=2, library_size=2000, dropout_mid=1.0, dropout_shape=-1.0, de_probability=0)
    params = truth(adata)
    kept = expected_counts(params)
    whole = expected_counts({name: x for name, x in params.items() if not name.startswith("dropout")})
    lost, at = 1 - np.asarray(kept / whole), np.asarray(whole)
    order = np.argsort(at.ravel())
    by_mean = [part.mean() for part in np.array_split(lost.ravel()[order], 8)]
    assert (np.diff(by_mean) < 0).all()
    x, before = adata.X.toarray(), adata.layers["true_counts"].toarray()
    drawn = [
        1 - a.sum() / b.sum() for a, b in zip(*(np.array_split(y.ravel()[order], 4) for y in (x, before)), strict=True)
    ]
    assert (np.diff(drawn) < 0).all()


@pytest.mark.parametrize("name", ["groups", "dropout"])
def test_gradients_are_those_of_finite_differences(name):
    adata = simulate(6, 8, 2, 2, seed=4, library_size=40, **SETTINGS[name])
    with jax.enable_x64(True):
        params = {key: jnp.asarray(x) for key, x in truth(adata).items()}
        weights = jnp.asarray(np.random.default_rng(0).normal(0, 1, (6, 8)))
        moved = [key for key in params if key not in ("group", "batch")]

        def value(some):
            return (weights * expected_counts({**params, **some})).sum()

        slopes = jax.grad(value)({key: params[key] for key in moved})
        assert {"mean", "group_factors", "batch_factors", "library_size"} <= set(moved)
        for key in moved:
            direction = jnp.asarray(np.random.default_rng(1).normal(0, 1, params[key].shape)) * params[key]
            ends = [value({key: params[key] + side * 1e-5 * direction}) for side in (1, -1)]
            numeric = (ends[0] - ends[1]) / 2e-5
            assert float((slopes[key] * direction).sum()) == pytest.approx(float(numeric), rel=1e-5, abs=1e-8)


def test_other_counts_are_refused():
    import anndata as ad

    with pytest.raises(KeyError, match="not counts of dbx"):
        truth(ad.AnnData(np.ones((3, 2), np.float32)))


def test_parameters_that_are_missing():
    with pytest.raises(ValueError, match="'library_size' is not there"):
        expected_counts({"mean": np.ones(3)})
    with pytest.raises(ValueError, match="'mean' is not there"):
        expected_counts(3)


def test_truth_is_that_of_the_columns():
    adata = simulate(20, 30, 3, 2, seed=1, nested=2)
    params = truth(adata)
    np.testing.assert_array_equal(params["mean"], adata.var["mean"])
    np.testing.assert_array_equal(params["group_factors"][1], adata.var["factor_group_2"])
    np.testing.assert_array_equal(params["group"], adata.obs["group"].cat.codes)
    np.testing.assert_array_equal(params["library_size"], adata.obs["library_size"])
