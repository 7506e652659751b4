"""Covariates, batches that come later, and training that goes on."""

import numpy as np
import pytest
from scipy import sparse, special

from dbx.data import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.counts.count_covariates import design, standards
from dbx.ops.counts.vae import VAENormalize
from dbx.ops.state import rebuild, state_arrays
from dbx.ops.values import Codes

N_CELLS, N_GENES = 360, 60
SMALL = {"likelihood": "poisson", "n_latent": 3, "n_hidden": 16, "batch_size": 60, "max_epochs": 40}


@pytest.fixture(scope="module")
def data():
    """Poisson counts of two groups in three batches; a donor and an age move further genes."""
    rng = np.random.default_rng(0)
    group, batch, donor = (rng.integers(0, n, N_CELLS) for n in (2, 3, 2))
    age = rng.normal(50, 10, N_CELLS)
    log = (
        rng.normal(0, 0.6, N_GENES) + rng.normal(0, 0.8, (2, N_GENES))[group] + rng.normal(0, 0.6, (3, N_GENES))[batch]
    )
    log += rng.normal(0, 0.6, (2, N_GENES))[donor] + rng.normal(0, 0.6, N_GENES) * (age[:, None] - 50) / 10
    counts = rng.poisson(400 * special.softmax(log, axis=1)).astype(np.float32)
    return {"counts": counts, "batch": batch.astype(np.int32), "donor": donor.astype(np.int32), "age": age}


def inputs(data, cells=slice(None), levels=("a", "b", "c"), *, covariates=True):
    given = {"x": RowBlocks(sparse.csr_matrix(data["counts"][cells])), "batch": Codes(data["batch"][cells], levels)}
    if covariates:
        given["categories"] = {"donor": Codes(data["donor"][cells], ("p", "q"))}
        given["numbers"] = {"age": data["age"][cells]}
    return given


def log_likelihood(operator, data, given, cells=slice(None)):
    share = np.asarray(apply(operator, given, given["x"].n_rows)["normalized"])
    share = share / share.sum(axis=1, keepdims=True)
    counts = data["counts"][cells]
    return (counts * np.log(share)).sum(axis=1) / counts.sum(axis=1)


def fitted(given, **config):
    operator = VAENormalize(**{**SMALL, **config})
    operator.fit(**given)
    return operator


@pytest.fixture(scope="module")
def whole(data):
    return fitted(inputs(data))


def test_the_design_is_indicators_and_standard_scores():
    codes, numbers = {"donor": Codes(np.array([0, 1, -1], np.int32), ("p", "q"))}, {"age": np.array([1.0, 2.0, 6.0])}
    scale = standards(numbers)
    np.testing.assert_allclose(scale[:, 0], [3, np.std([1, 2, 6])])
    expected = np.column_stack([[[1, 0], [0, 1], [0.5, 0.5]], (numbers["age"] - 3) / scale[1, 0]])
    np.testing.assert_allclose(design(codes, numbers, scale), expected, rtol=1e-6)
    assert design(None, None, standards(None)) is None
    with pytest.raises(ValueError, match="'age' is the same for all cells"):
        standards({"age": np.ones(3)})
    with pytest.raises(ValueError, match="'donor' is not numeric"):
        standards(codes)


def test_covariates_explain_what_they_moved(data, whole):
    """The latent space is too small for donor and age: told of them, the decoder explains more."""
    without = fitted(inputs(data, covariates=False))
    told = log_likelihood(whole, data, inputs(data)).mean()
    assert told > log_likelihood(without, data, inputs(data, covariates=False)).mean() + 0.005
    other = inputs(data)
    other["categories"] = {"donor": Codes(1 - data["donor"], ("p", "q"))}
    assert log_likelihood(whole, data, other).mean() < told - 0.01
    other = inputs(data)
    other["numbers"] = {"age": 100 - data["age"]}
    assert log_likelihood(whole, data, other).mean() < told - 0.01


def test_it_is_built_again_from_its_arrays(data, whole):
    again = rebuild(VAENormalize, whole.config, state_arrays(whole))
    for name, value in apply(again, inputs(data), N_CELLS).items():
        np.testing.assert_array_equal(value, apply(whole, inputs(data), N_CELLS)[name])


@pytest.mark.parametrize("config", [{}, {"encode_batch": True, "likelihood": "zinb", "dispersion": "gene-batch"}])
def test_a_new_batch_gets_columns_of_its_own(data, config):
    known, new = data["batch"] < 2, np.flatnonzero(data["batch"] == 2)
    operator = fitted(inputs(data, known, ("a", "b")), **config)
    before, old = state_arrays(operator), apply(operator, inputs(data, known, ("a", "b")), int(known.sum()))
    share = log_likelihood(operator, data, inputs(data, new), new)
    operator.extend(**inputs(data))
    assert operator.config["n_batches"] == 3
    after = state_arrays(operator)
    grown = {name for name in before if before[name][1].shape != after[name][1].shape}
    assert all(np.array_equal(before[name][1], after[name][1]) for name in set(before) - grown)
    now = apply(operator, inputs(data, known), int(known.sum()))
    for name, value in old.items():  # known batches are where they were
        np.testing.assert_allclose(now[name], value, rtol=1e-5, atol=1e-5 * np.abs(value).max())
    # an equal share of the others' columns is what cells of a new batch had before
    assert log_likelihood(operator, data, inputs(data, new), new).mean() > share.mean() + 0.01
    again = rebuild(VAENormalize, operator.config, after)
    again.extend(**inputs(data))  # nothing is new any more
    np.testing.assert_array_equal(apply(again, inputs(data), N_CELLS)["z"], apply(operator, inputs(data), N_CELLS)["z"])


def test_without_adaptation_a_new_batch_has_an_equal_share(data):
    known = data["batch"] < 2
    operator = fitted(inputs(data, known, ("a", "b")), adapt_epochs=0, max_epochs=3)
    operator.extend(**inputs(data))
    missing = {**inputs(data), "batch": Codes(np.where(known, data["batch"], -1).astype(np.int32), ("a", "b"))}
    np.testing.assert_array_equal(
        apply(operator, inputs(data), N_CELLS)["normalized"], apply(operator, missing, N_CELLS)["normalized"]
    )


def test_training_goes_on_from_what_was_learnt(data):
    given = inputs(data)
    operator = fitted(given, max_epochs=10)
    first = operator.history["loss"]
    operator = rebuild(VAENormalize, operator.config, state_arrays(operator))
    operator.fit(**given)
    losses = operator.history["loss"]
    np.testing.assert_array_equal(losses[:10], first)
    assert len(losses) == 20
    assert losses[10:].max() < first[1]
    assert losses[-1] < first[-1]
    fewer = {**given, "x": RowBlocks(data["counts"][:, :50])}
    with pytest.raises(ValueError, match="trained on 60 genes and 3 batches and cannot be trained further on 50 and 3"):
        operator.fit(**fewer)
