"""dbx.optimize through a hidden Markov model: whole sequences, gradients, what is recorded."""

import anndata as ad
import jax
import numpy as np
import pytest

import dbx
from dbx.data.minibatches import plan_whole
from dbx.losses.hidden_markov import hmm_log_likelihood

N, LENGTH, GENES = 16, 12, 20
PARAMS = {
    "startprob": [0.5, 0.5],
    "transmat": [[0.6, 0.4], [0.4, 0.6]],
    "means": [[-1.0, 0.5], [1.5, 0.0]],
    "variances": [[3.0, 2.0], [2.0, 2.0]],
}


@pytest.fixture
def cells(rng) -> ad.AnnData:
    """Sequences of two states that last five positions, rows in any order."""
    states = np.zeros((N, LENGTH), int)
    for t in range(1, LENGTH):
        states[:, t] = np.where(rng.random(N) < 0.2, 1 - states[:, t - 1], states[:, t - 1])
    z = states.ravel()
    x = rng.normal(size=(N * LENGTH, GENES)) + np.outer(2 * z - 1, rng.normal(size=GENES))
    data = ad.AnnData(x.astype(np.float32))
    data.obs["donor"] = np.repeat([f"d{i:02d}" for i in range(N)], LENGTH)
    data.obs["time"] = np.tile(np.arange(LENGTH, dtype=float), N)
    data.obs["half"] = np.tile(["a", "b"], N * LENGTH // 2)
    data.obs["one"] = "a"
    data = data[rng.permutation(data.n_obs)].copy()
    dbx.pp.pca(data, n_comps=2)
    return data


def by_hand(data: ad.AnnData, params) -> float:
    """Mean negative log-likelihood for each row, by the pure function on padded sequences."""
    frame = data.obs.assign(row=range(data.n_obs)).sort_values(["donor", "time"])
    z = np.asarray(data.obsm["X_pca"], np.float64)[frame["row"]].reshape(N, LENGTH, 1, 2)
    means, variances = np.asarray(params["means"]), np.asarray(params["variances"])
    logs = -0.5 * ((z - means) ** 2 / variances + np.log(2 * np.pi * variances)).sum(axis=3)
    with jax.enable_x64(True):
        return (
            -float(hmm_log_likelihood(np.log(params["startprob"]), np.log(params["transmat"]), logs).sum())
            / len(z)
            / LENGTH
        )


def test_a_recorded_model_is_trained_on_whole_sequences(cells):
    where = {"use_rep": "X_pca", "sequence_key": "donor", "position_key": "time"}
    dbx.tl.hmm(cells, 2, params=PARAMS, fit=False, **where)
    before = cells.copy()
    loss = dbx.losses.HMMLikelihood()
    dbx.optimize(cells, loss, train="hmm", max_epochs=20, learning_rate=0.05, validation=0.25, anchor=0)
    result = cells.uns["optimize"]
    assert result["kept"].all()
    held_out = set(result["held_out"])
    assert len(held_out) == 4 * LENGTH
    donors = cells.obs["donor"]
    assert all(set(donors.index[donors == d]) <= held_out for d in donors[list(held_out)].unique())
    params = cells.uns["hmm"]["params"]
    assert by_hand(cells, params) < by_hand(cells, PARAMS) - 0.1
    # what was judged is the likelihood of the held-out sequences, which the pure function gives
    part = before[sorted(held_out)].copy()
    values = before.obs.assign(row=range(before.n_obs)).loc[sorted(held_out)]
    dbx.tl.hmm(part, 2, params=PARAMS, fit=False, **where)
    nll = -part.uns["hmm"]["log_likelihood"] / len(values)
    assert result["losses"]["hmm_likelihood"]["before"] == pytest.approx(nll, rel=1e-5)
    # the results are those of the parameters that are recorded
    again = cells.copy()
    dbx.tl.hmm(again, 2, params=params, fit=False, **where)
    np.testing.assert_allclose(cells.obsm["X_hmm"], again.obsm["X_hmm"], atol=1e-5)
    assert cells.uns["hmm"]["log_likelihood"] == pytest.approx(-by_hand(cells, params) * cells.n_obs, rel=1e-5)
    new = ad.AnnData(before.X[:40], obs=before.obs.iloc[:40][["donor", "time"]])
    dbx.rerun(new, cells)
    assert new.obs["hmm_state"].notna().all()


def test_a_new_model_is_fitted_trained_with_the_projection_and_recorded(cells):
    loss = dbx.losses.HMMLikelihood(
        2, inputs={"z": "obsm/X_pca", "sequences": "obs/donor", "positions": "obs/time"}, step="phases"
    )
    untouched = cells.copy()
    with pytest.raises(ValueError, match="whole sequences"):
        dbx.optimize(cells, dbx.losses.HMMLikelihood(2, inputs={"z": "obsm/X_pca", "sequences": "obs/one"}))
    assert cells.uns.keys() == untouched.uns.keys()
    assert list(cells.obs) == list(untouched.obs)
    dbx.optimize(cells, loss, max_epochs=3)
    assert {"phases_state"} <= set(cells.obs)
    assert cells.obsm["X_phases"].shape == (cells.n_obs, 2)
    assert set(cells.uns["optimize"]["before"]) == {"pca", "phases"}


def test_wrong_uses_are_refused_in_words(cells):
    with pytest.raises(ValueError, match="there is none"):
        dbx.optimize(cells, dbx.losses.HMMLikelihood())
    with pytest.raises(ValueError, match="needs its data"):
        dbx.losses.HMMLikelihood(2)
    with pytest.raises(ValueError, match="pass n_states"):
        dbx.losses.HMMLikelihood(inputs={"z": "obsm/X_pca"})
    inputs = {"z": "obsm/X_pca", "sequences": "obs/donor"}
    with pytest.raises(ValueError, match="divides sequences"):
        dbx.optimize(cells, dbx.losses.HMMLikelihood(2, inputs=inputs), split_key="half")
    with pytest.raises(ValueError, match="inputs must be one of"):
        dbx.optimize(cells, dbx.losses.HMMLikelihood(2, inputs={"sequence": "obs/donor", **inputs}))
    assert "hmm_state" not in cells.obs


def test_groups_are_whole_in_minibatches_of_one_shape(rng):
    groups = rng.permutation(np.repeat(np.arange(9), [1, 2, 30, 4, 4, 8, 8, 3, 10]))
    rows = np.flatnonzero(groups != 3)
    shapes = set()
    for seed in range(5):
        plan = plan_whole(rows, groups, 20, np.random.default_rng(seed))
        shapes.add(plan.rows.shape)
        used = plan.rows[plan.weights > 0]
        assert sorted(used) == sorted(rows)
        for batch, weights in zip(plan.rows, plan.weights, strict=True):
            inside = set(groups[batch[weights > 0]])
            assert inside, "an empty minibatch"
            assert not inside & set(groups[batch[weights == 0]])  # padding belongs to other sequences
            assert all((groups[batch] == g).sum() == (groups == g).sum() for g in inside)
    assert len(shapes) == 1
