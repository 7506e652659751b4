"""The program as a differentiable function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dbx
from dbx.ops.values import Codes


@pytest.fixture
def pipeline(analysed):
    return dbx.Pipeline.from_adata(analysed)


def slots_of(pipeline, adata, cells=slice(None)):
    genes = pipeline.inputs["X"]
    batch = adata.obs["batch"].astype("category")
    return {
        "X": jnp.asarray(adata[cells, genes].layers["counts"].toarray()),
        "obs/batch": Codes(jnp.asarray(batch.cat.codes.to_numpy()[cells], jnp.int32), tuple(batch.cat.categories)),
    }


def test_it_gives_what_is_stored(pipeline, analysed):
    slots = pipeline(pipeline.parameters, slots_of(pipeline, analysed), rows=np.arange(analysed.n_obs))
    np.testing.assert_allclose(slots["obsm/X_pca"], analysed.obsm["X_pca"], atol=2e-4)
    np.testing.assert_allclose(slots["obsm/X_pca_harmony"], analysed.obsm["X_pca_harmony"], atol=2e-3)
    np.testing.assert_array_equal(slots["obsm/X_umap"], analysed.obsm["X_umap"])
    labels = np.array(slots["obs/leiden"].levels)[np.asarray(slots["obs/leiden"].codes)]
    assert labels.tolist() == analysed.obs["leiden"].tolist()


@pytest.mark.arithmetic
def test_jit_gives_the_same(pipeline, analysed):
    slots = slots_of(pipeline, analysed, slice(0, 20))
    plain = pipeline(pipeline.parameters, slots)["obsm/X_pca_harmony"]
    compiled = jax.jit(pipeline)(pipeline.parameters, slots)["obsm/X_pca_harmony"]
    np.testing.assert_allclose(plain, compiled, rtol=1e-4, atol=1e-4)


@pytest.mark.arithmetic
def test_a_gradient_flows_through_every_step_between(pipeline, analysed):
    slots = slots_of(pipeline, analysed, slice(0, 20))

    def objective(parameters, slots):
        return (pipeline(parameters, slots)["obsm/X_pca_harmony"] ** 2).sum()

    parameters = pipeline.parameters
    gradient = jax.grad(objective)(parameters, slots)
    direction = jnp.asarray(np.random.default_rng(0).normal(size=parameters["pca"]["residual"].shape), jnp.float32)
    step = 1e-2
    moved = [
        objective({**parameters, "pca": {"residual": parameters["pca"]["residual"] + s * direction}}, slots)
        for s in (-step, step)
    ]
    numeric = (moved[1] - moved[0]) / (2 * step)
    # float32 differences of a sum of some thousands: a percent is what they can hold
    np.testing.assert_allclose(float((gradient["pca"]["residual"] * direction).sum()), float(numeric), rtol=2e-2)
    by_counts = jax.grad(lambda x: objective(parameters, {**slots, "X": x}))(slots["X"])
    assert float(jnp.abs(by_counts).max()) > 0


def test_the_wiring_reads_as_words(pipeline):
    text = pipeline.describe()
    assert text.splitlines()[0] == "starts from: X, obs/batch"
    assert "pca: x <- X (log1p) -> obsm/X_pca" in text
    assert "harmony: x <- obsm/X_pca (pca); batch <- obs/batch -> obsm/X_pca_harmony" in text
    assert repr(pipeline).startswith("Pipeline(normalize_total -> log1p -> pca -> harmony")


def test_wrong_names_are_refused(pipeline, analysed):
    slots = slots_of(pipeline, analysed, slice(0, 5))
    with pytest.raises(KeyError, match=r"^Step 'pca' has no parameter nonsense\.$"):
        pipeline({"pca": {"nonsense": 1}}, slots)
    with pytest.raises(ValueError, match="needs genes that X lacks"):
        pipeline({}, {**slots, "X": slots["X"][:, :5]}, genes={"X": pipeline.inputs["X"][:5]})


def test_wrong_values_are_refused_in_words(pipeline, analysed):
    slots = slots_of(pipeline, analysed, slice(0, 5))
    with pytest.raises(ValueError, match="needs a value for 'obs/batch'"):
        pipeline({}, {"X": slots["X"]})
    with pytest.raises(ValueError, match="dense"):
        pipeline({}, {**slots, "X": analysed.layers["counts"][:5]})
    with pytest.raises(ValueError, match="has 7 columns, but 200 genes are needed"):
        pipeline({}, {**slots, "X": slots["X"][:, :7]})


def test_no_program_is_said(counts):
    with pytest.raises(ValueError, match="No program is recorded"):
        dbx.Pipeline.from_adata(counts)
