"""What a training cannot start from is said before it starts, and by name."""

import jax.numpy as jnp
import numpy as np
import pytest

import dbx
from dbx.losses import BatchMixing, Compactness, CrossEntropy, Function


@pytest.fixture(scope="module")
def _projected(counts):
    adata = counts.copy()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=3)
    return adata


@pytest.fixture
def projected(_projected):
    return _projected.copy()


def improve(adata, loss, **settings):
    before = adata.obsm["X_pca"].copy()
    try:
        dbx.optimize(adata, loss, max_epochs=2, **settings)
    finally:
        np.testing.assert_array_equal(adata.obsm["X_pca"], before)
        assert "optimize" not in adata.uns


NOT_FINITE = {
    "logarithm": lambda z: jnp.log(z[:, 0]),
    "root": lambda z: jnp.sqrt(z[:, 0]),
    "division": lambda z: 1 / (0 * z[:, 0]),
    "overflow": lambda z: jnp.exp(1000 * jnp.abs(z[:, 0])),
}


@pytest.mark.parametrize("function", NOT_FINITE.values(), ids=NOT_FINITE.keys())
def test_a_loss_that_is_not_finite_is_named_before_any_training(projected, function):
    with pytest.raises(ValueError, match=r"'function' is not finite for \d+ of 2\d cells before any training") as error:
        improve(projected, function)
    assert "learning rate" not in str(error.value)


def test_in_a_sum_the_part_is_named(projected):
    with pytest.raises(ValueError, match="'function' is not finite"):
        improve(projected, BatchMixing("batch") + Function(lambda z: jnp.log(-jnp.abs(z[:, 0]))))


@pytest.mark.parametrize("anchored", [True, False])
def test_a_cell_that_is_trained_on_is_found_too(projected, anchored):
    projected.obs["weight"] = np.ones(projected.n_obs)
    function = Function(lambda z, w: w * z[:, 0] ** 2, ("obs/weight",))
    first = projected.copy()
    dbx.optimize(first, function, max_epochs=1)
    held_out = set(first.uns["optimize"]["held_out"])
    trained_on = [name for name in projected.obs_names if name not in held_out]
    projected.obs.loc[trained_on[5], "weight"] = np.nan
    with pytest.raises(ValueError, match=r"1 of \d+ cells .*obs/weight has missing or infinite values"):
        improve(projected, function, anchor=200.0 if anchored else 0.0)


GRADIENTS = {
    "root": lambda z: jnp.sqrt(jnp.maximum(z[:, 0], 0)),
    "norm": lambda z: jnp.linalg.norm(0 * z, axis=1),
    "power": lambda z: jnp.maximum(z[:, 0], 0) ** 0.5,
}


@pytest.mark.parametrize("function", GRADIENTS.values(), ids=GRADIENTS.keys())
def test_a_gradient_that_is_not_finite_is_named(projected, function):
    with pytest.raises(ValueError, match="gradient of 'function' is not finite before any training, .*1e-12"):
        improve(projected, function)


def test_a_training_that_diverges_says_so(projected):
    with pytest.raises(FloatingPointError, match="smaller learning rate"):
        improve(projected, lambda z: -jnp.exp(jnp.abs(z[:, 0])), learning_rate=1e6, anchor=0.0)


def targets(adata):
    target = np.linspace(-1, 1, adata.n_obs).astype("float32")
    column, on_device = target[:, None], jnp.asarray(target)

    def by_default(z, target=target):
        return (z[:, 0] - target) ** 2

    return {
        "array": lambda z: (z[:, 0] - target) ** 2,
        "jax": lambda z: jnp.square(z[:, 0] - on_device),
        "column": lambda z: ((z[:, :1] - column) ** 2).sum(axis=1),
        "default": by_default,
        "broadcast": lambda z: (z[:, 0] - column) ** 2,
    }


@pytest.mark.parametrize("kind", ["array", "jax", "column", "default", "broadcast"])
def test_values_of_all_cells_belong_in_a_slot(projected, kind):
    with pytest.raises(
        ValueError, match=r"'(target|on_device|column)', which has 150 rows, and a minibatch .*slots=\('obs/"
    ):
        improve(projected, targets(projected)[kind])


def test_a_target_in_a_slot_is_cut_along_with_the_cells(projected):
    projected.obs["target"] = np.linspace(-1, 1, projected.n_obs)
    dbx.optimize(projected, Function(lambda z, target: (z[:, 0] - target) ** 2, ("obs/target",)), max_epochs=1)
    assert np.isfinite(projected.uns["optimize"]["gain"]).all()


def test_numpy_in_a_function_is_jax_s_own_error(projected):
    with pytest.raises(TypeError, match="TracerArrayConversionError|numpy"):
        improve(projected, lambda z: np.square(np.asarray(z[:, 0])))


def test_an_error_of_the_function_itself_is_left_as_it_is(projected):
    def broken(z):
        msg = "mine"
        raise ValueError(msg)

    with pytest.raises(ValueError, match="mine") as error:
        improve(projected, broken)
    assert "minibatch" not in str(error.value)


VALUES = {
    "whole numbers": lambda n: 3 * np.arange(n),
    "whole floats": lambda n: 3.0 * np.arange(n),
    "names of cells": lambda n: np.array([f"cell {i}" for i in range(n)]),
    "mostly alone": lambda n: np.where(np.arange(n) % 3 == 0, 0, np.arange(n)),
}


@pytest.mark.parametrize("loss", [CrossEntropy, BatchMixing, Compactness])
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_a_value_of_its_own_for_each_cell_is_no_group(projected, loss, values):
    projected.obs["age"] = values(projected.n_obs)
    with pytest.raises(ValueError, match=r"obs\['age'\] has a value of its own for \d+ of 150 cells") as error:
        improve(projected, loss("age"))
    assert ("pandas.cut" in str(error.value)) == (projected.obs["age"].dtype.kind in "if")


@pytest.mark.parametrize("loss", [CrossEntropy, BatchMixing, Compactness])
def test_fractions_are_cut_first(projected, loss):
    projected.obs["age"] = np.linspace(0, 1, projected.n_obs)
    with pytest.raises(ValueError, match="holds fractions.*pandas.cut"):
        improve(projected, loss("age"))


def test_a_few_cells_alone_in_their_group_are_let_pass(projected):
    group = projected.obs["group"].astype(str).to_numpy().astype(object)
    group[:5] = [f"rare {i}" for i in range(5)]
    projected.obs["rare"] = group
    dbx.optimize(projected, CrossEntropy("rare"), max_epochs=1)
    assert "rare_predicted" in projected.obs
