"""tl.hmm beside hmmlearn's stored results, on rows in any order, with missing values and wrong input."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import dbx

REFERENCE = Path(__file__).parents[1] / "reference" / "hmm_exact.npz"
"""hmmlearn 0.3.3 in logarithms and float64 (SciPy's emission for the negative binomial): log-likelihoods, posteriors
and paths of five sequences of lengths 1 to 640 with a zero transition; ``tie`` marks rows where two paths are equal."""
KEYS = {
    "categorical": ("emissionprob",),
    "gaussian": ("means", "variances"),
    "poisson": ("rates",),
    "nb": ("means", "theta"),
}


def stored(emission: str) -> tuple[ad.AnnData, dict, dict]:
    with np.load(REFERENCE) as file:
        found = {name: file[name] for name in file.files}
    params = {name: found[f"{emission}_param_{name}"] for name in ("startprob", "transmat", *KEYS[emission])}
    x = found[f"{emission}_x"].astype(float)
    data = ad.AnnData(x.reshape(len(x), -1))
    data.obs["symbol"] = x.ravel() if emission == "categorical" else 0.0
    data.obs["sequence"] = np.repeat(["a", "b", "c", "d", "e"], found["lengths"])
    data.obs["place"] = np.arange(len(x), dtype=float)
    return data, params, {name: found[f"{emission}_{name}"] for name in ("loglik", "posterior", "viterbi", "tie")}


def arguments(emission: str) -> dict:
    how = {"emission": emission, "sequence_key": "sequence", "position_key": "place"}
    return how | ({"codes_key": "symbol"} if emission == "categorical" else {})


@pytest.mark.parametrize("emission", list(KEYS))
def test_as_hmmlearn_with_rows_in_any_order(emission, rng):
    data, params, expected = stored(emission)
    order = rng.permutation(data.n_obs)
    mixed = data[order].copy()
    dbx.tl.hmm(mixed, 3, params=params, fit=False, **arguments(emission))
    np.testing.assert_allclose(mixed.uns["hmm"]["log_likelihood_per_sequence"], expected["loglik"], rtol=1e-10)
    np.testing.assert_allclose(mixed.obsm["X_hmm"], expected["posterior"][order], atol=1e-8)
    same = mixed.obs["hmm_state"].cat.codes.to_numpy() == expected["viterbi"][order]
    assert (same | expected["tie"][order]).all()


def bins(rng, n: int = 120) -> ad.AnnData:
    x = np.repeat([0.0, 4.0, 0.0], n // 3) + rng.normal(size=n) * 0.5
    data = ad.AnnData(x[:, None])
    data.obs["chromosome"] = np.repeat(["1", "2"], n // 2)
    data.obs["text"] = "a"
    data.layers["counts"] = np.rint(np.exp(x))[:, None]
    return data


def test_missing_values_are_left_out_and_still_have_a_state(rng):
    data = bins(rng)
    data.X[50] = np.nan
    dbx.tl.hmm(data, 2)
    assert data.obs["hmm_state"].iloc[50] == "1"
    np.testing.assert_allclose(data.obsm["X_hmm"].sum(axis=1), 1)
    params = data.uns["hmm"]["params"]
    np.testing.assert_allclose(params["means"][:, 0], [0, 4], atol=0.3)


def test_known_states_are_kept(rng):
    data = bins(rng)
    data.obs["known"] = pd.Categorical(["high"] * 3 + ["Unknown"] * 114 + ["low"] * 3, ["high", "low", "Unknown"])
    dbx.tl.hmm(data, 2, labels_key="known", max_iter=20, tol=None)
    assert list(data.obs["hmm_state"].cat.categories) == ["high", "low"]
    assert (data.obs["hmm_state"].iloc[:3] == "high").all()
    np.testing.assert_allclose(data.obsm["X_hmm"][:3], [[1, 0]] * 3)
    np.testing.assert_allclose(data.obsm["X_hmm"][-3:], [[0, 1]] * 3)


def test_only_what_is_to_be_learned_moves(rng):
    data = bins(rng)
    params = {"startprob": [0.5, 0.5], "transmat": [[0.8, 0.2], [0.2, 0.8]], "means": [0, 3], "variances": [1, 1]}
    dbx.tl.hmm(data, 2, params=params, learn="transmat")
    found = data.uns["hmm"]["params"]
    np.testing.assert_allclose(found["means"][:, 0], [0, 3], atol=1e-12)
    np.testing.assert_allclose(found["startprob"], [0.5, 0.5])
    assert found["transmat"][0, 0] > 0.9


def test_a_higher_temperature_blurs(rng):
    data = bins(rng)
    params = {"startprob": [0.5, 0.5], "transmat": [[0.8, 0.2], [0.2, 0.8]], "means": [0, 3], "variances": [1, 1]}
    dbx.tl.hmm(data, 2, params=params, fit=False)
    sharp = data.obsm["X_hmm"].max(axis=1).mean()
    dbx.tl.hmm(data, 2, params=params, fit=False, temperature=10)
    assert data.obsm["X_hmm"].max(axis=1).mean() < sharp - 0.05


def test_new_sequences_by_the_stored_parameters(rng):
    data, new = bins(rng), bins(rng, 90)
    new.obs["chromosome"] = np.repeat(["2", "3", "4"], 30)
    dbx.tl.hmm(data, 2, sequence_key="chromosome")
    dbx.rerun(new, data)
    expected = new.copy()
    dbx.tl.hmm(expected, 2, sequence_key="chromosome", params=data.uns["hmm"]["params"], fit=False)
    np.testing.assert_allclose(new.obsm["X_hmm"], expected.obsm["X_hmm"], atol=1e-10)


WRONG = {
    "counts": ({"emission": "poisson"}, "needs counts"),
    "nb": ({"emission": "nb"}, "needs counts"),
    "codes": ({"emission": "categorical"}, "whole numbers"),
    "symbols": ({"emission": "categorical", "layer": "counts", "n_symbols": 2}, "below the number of symbols"),
    "missing": ({"use_rep": "nothing"}, "1 of 1 sequences have missing values only: .* begins in row 0"),
    "states": ({"use_rep": "constant"}, "is only 1 distinct value,"),
    "params": ({"params": {"startprob": [1, 0]}}, "params must have"),
    "rows": (
        {"params": {"startprob": [1, 0], "transmat": [[1, 0], [0.5, 0.6]], "means": [0, 1], "variances": [1, 1]}},
        r"Row 1 of params\['transmat'\]",
    ),
    "positions": ({"position_key": "text"}, "position_key must be numbers"),
    "labels": ({"labels_key": "unknown"}, "All labels"),
    "two": ({"use_rep": "nothing", "layer": "counts"}, "only one of"),
    "nothing": ({"fit": False}, "needs params"),
    "names": ({"state_names": ["a"]}, "one for each"),
    "twice": ({"state_names": ["a", "a"]}, "different names"),
    "list": ({"params": [1, 2]}, "dict of arrays"),
    "text": ({"params": {"startprob": "x"}}, "array of numbers"),
    "tol": ({"tol": -1}, "tol must be at least 0"),
    "variance": ({"min_variance": 0}, "min_variance must be above 0"),
    "symbols of numbers": ({"n_symbols": 3}, "n_symbols is for"),
    "variance of counts": ({"min_variance": 1, "emission": "poisson", "layer": "counts"}, "min_variance is for"),
    "columns": ({"emission": "categorical", "use_rep": "two"}, "one column of codes"),
    "start": ({"init": "copy_number"}, "n_states=3"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_wrong_input_is_refused_in_words(name, rng):
    how, words = WRONG[name]
    data = bins(rng)
    data.obsm["nothing"], data.obsm["constant"] = np.full((120, 1), np.nan), np.ones((120, 1))
    data.obsm["two"] = np.ones((120, 2))
    data.obs["unknown"] = "Unknown"
    before = data.copy()
    with pytest.raises(ValueError, match=words):
        dbx.tl.hmm(data, 2, **how)
    assert data.uns.keys() == before.uns.keys()
    assert list(data.obs) == list(before.obs)


def test_a_fit_that_still_rises_says_so(rng):
    with pytest.warns(UserWarning, match="larger max_iter"):
        dbx.tl.hmm(bins(rng), 2, max_iter=1, n_init=2)


def test_along_the_gradient_to_the_same_optimum(rng):
    data, other = bins(rng), None
    dbx.tl.hmm(data, 2, n_init=2)
    other = ad.AnnData(data.X)
    dbx.tl.hmm(other, 2, n_init=2, method="gradient", learning_rate=0.1, max_iter=50)
    one, two = data.uns["hmm"], other.uns["hmm"]
    assert two["log_likelihood"] == pytest.approx(one["log_likelihood"], abs=1e-3)
    assert len(two["history"]) > len(one["history"])
    dbx.tl.hmm(other, 2, n_init=2, method="gradient", learning_rate=1e-6, max_iter=3, tol=None)
    assert np.ptp(other.uns["hmm"]["history"][:4]) < 1e-2  # hardly a step


def test_priors_are_pseudo_counts(rng):
    """With all states known the estimates are counts plus priors, by hand."""
    data = bins(rng)
    codes = np.repeat([0, 1, 0], 40)
    data.obs["known"] = pd.Categorical.from_codes(codes, ["low", "high"])
    how = {"labels_key": "known", "n_init": 1, "max_iter": 3, "tol": None}
    dbx.tl.hmm(data, 2, transmat_prior=2.0, sticky=5.0, emission_prior=3.0, **how)
    params = data.uns["hmm"]["params"]
    counts = np.array([[78, 1], [1, 39]]) + 2 + 5 * np.eye(2)
    np.testing.assert_allclose(params["transmat"], counts / counts.sum(axis=1, keepdims=True))
    x = data.X[:, 0].astype(float)
    squares = ((x[codes == 0] - x[codes == 0].mean()) ** 2).sum()
    np.testing.assert_allclose(params["variances"][0, 0], (squares + 3 * x.var()) / (80 + 3))
    counted = ad.AnnData(np.ones((120, 1)), obs=data.obs.assign(base=codes))
    dbx.tl.hmm(counted, 2, emission="categorical", codes_key="base", n_symbols=3, emission_prior=3.0, **how)
    np.testing.assert_allclose(
        counted.uns["hmm"]["params"]["emissionprob"], [[83 / 89, 3 / 89, 3 / 89], [3 / 49, 43 / 49, 3 / 49]]
    )


def test_a_state_that_no_position_is_in_is_named(rng):
    params = {"startprob": [1, 0, 0], "transmat": [[0.9, 0.1, 0], [0.1, 0.9, 0], [0.4, 0.3, 0.3]]}
    params |= {"means": [0, 4, 9], "variances": [1, 1, 1]}
    data = bins(rng)
    with pytest.warns(UserWarning, match="No position is in state '2'.*n_states=2"):
        dbx.tl.hmm(data, 3, params=params)
    assert data.uns["hmm"]["params"]["means"][2, 0] == pytest.approx(9)
