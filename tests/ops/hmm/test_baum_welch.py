"""Baum and Welch's fit: its likelihood never falls, and it finds what data were drawn from."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from dbx.ops.hmm.baum_welch import Model, Problem, fit
from dbx.ops.hmm.count_emissions import NegativeBinomial, Poisson, newton_theta
from dbx.ops.hmm.emissions import Categorical, Data, Gaussian
from dbx.ops.hmm.gradient import climb, slopes_of
from dbx.ops.hmm.packed import pack
from dbx.ops.hmm.starts import first_models

N, LENGTH = 20, 50


def drawn(emission: str, rng) -> tuple[Problem, np.ndarray]:
    """Sequences of three states that last 10 positions, a tenth of the values missing, and their states."""
    moves = np.full((3, 3), 0.05) + 0.85 * np.eye(3)
    states = np.empty((N, LENGTH), int)
    states[:, 0] = rng.integers(0, 3, N)
    for t in range(1, LENGTH):
        u = rng.random(N)[:, None]
        states[:, t] = (np.cumsum(moves[states[:, t - 1]], axis=1) < u).sum(axis=1)
    packed = pack(np.repeat(np.arange(N), LENGTH))
    z = states.ravel()[packed.rows]
    missing = rng.random(z.size) < 0.1
    if emission == "categorical":
        table = np.array([[0.5, 0.3, 0.1, 0.1], [0.1, 0.1, 0.5, 0.3], [0.1, 0.5, 0.1, 0.3]])
        codes = (np.cumsum(table[z], axis=1) < rng.random((z.size, 1))).sum(axis=1)
        return Problem(packed, Data(np.where(missing, -1, codes)[None].astype(np.int32)), Categorical(4)), z
    means = np.array([2.0, 8.0, 25.0])[z]
    sizes = rng.uniform(0.5, 2, z.size)
    x = {
        "gaussian": lambda: np.array([-2.0, 0.0, 2.0])[z] + rng.normal(size=z.size),
        "poisson": lambda: rng.poisson(means * sizes),
        "nb": lambda: rng.poisson(means * sizes * rng.gamma(3, 1 / 3, z.size)),
    }[emission]()
    data = Data.of(np.where(missing, np.nan, x)[None], None if emission == "gaussian" else sizes)
    overall = np.nanmean(data.values, axis=1)
    family = {
        "gaussian": lambda: Gaussian(data.values.var(axis=1), np.array([1e-4])),
        "poisson": lambda: Poisson(data, overall, 0.5),
        "nb": lambda: NegativeBinomial(data, overall),
    }[emission]()
    return Problem(packed, data, family, transmat_prior=0.5, sticky=1.0), z


@pytest.mark.parametrize("emission", ["categorical", "gaussian", "poisson", "nb"])
def test_the_likelihood_never_falls_and_states_are_found(emission, rng):
    problem, states = drawn(emission, rng)
    found = fit(problem, first_models(problem, 3, 2, "kmeans", 0), max_iter=100, tol=1e-3)
    assert np.diff(found.history).min() > -1e-8 * abs(found.history[-1])
    assert found.converged
    assert found.history[-1] == found.starts.max()
    from dbx.ops.hmm.messages import Sweeps

    posterior = problem.expected(Sweeps(problem.packed, 1, 3), found.model).posterior[0]
    table = np.zeros((3, 3))
    np.add.at(table, (posterior.argmax(axis=0), states), 1)
    assert table.max(axis=0).sum() / len(states) > (0.65 if emission == "categorical" else 0.8)
    # EM finds a point where the derivative is zero: one more pass changes next to nothing
    again = problem.estimated(problem.expected(Sweeps(problem.packed, 1, 3), found.model), found.model)
    np.testing.assert_allclose(again.transmat, found.model.transmat, atol=2e-3)


def test_impossible_transitions_and_empty_states_stay(rng):
    problem, _ = drawn("gaussian", rng)
    start = first_models(problem, 3, 1, "kmeans", 0)
    start.transmat[0] = [[0.9, 0.1, 0], [0, 0.9, 0.1], [0, 0, 1]]
    start.startprob[0] = [1, 0, 0]
    found = fit(problem, start, max_iter=3, tol=None).model
    assert (found.transmat[0][np.array(start.transmat[0]) == 0] == 0).all()
    start.transmat[0] = [[0.5, 0.5, 0], [0.5, 0.5, 0], [0.3, 0.3, 0.4]]  # the last state is never entered
    found = fit(problem, start, max_iter=3, tol=None).model
    assert found.emission["means"][0, 2] == start.emission["means"][0, 2]
    assert np.isfinite(found.transmat).all()


def test_exactly_as_many_passes_without_tol(rng):
    problem, _ = drawn("gaussian", rng)
    start = first_models(problem, 3, 1, "kmeans", 0)
    by_two = fit(problem, fit(problem, start, max_iter=2, tol=None).model, max_iter=2, tol=None).model
    np.testing.assert_allclose(by_two.transmat, fit(problem, start, max_iter=4, tol=None).model.transmat, rtol=1e-10)


def test_theta_is_the_maximum_of_scipys_likelihood(rng):
    x = rng.poisson(6 * rng.gamma(2.5, 1 / 2.5, 400)).astype(float)
    theta = newton_theta(x, np.ones(400), np.ones((1, 1, 400)), np.full((1, 1), x.mean()), np.full((1, 1), 50.0))[0, 0]

    def likelihood(t):
        return stats.nbinom.logpmf(x, t, t / (t + x.mean())).sum()

    assert likelihood(theta) > max(likelihood(theta * 1.001), likelihood(theta * 0.999))
    fewer = np.repeat([3.0, 4.0], 200)  # less than Poisson: the upper bound
    found = newton_theta(fewer, np.ones(400), np.ones((1, 1, 400)), np.full((1, 1), 3.5), np.full((1, 1), 2.0), 30)
    assert found[0, 0] > 1e5


H = 1e-5
EMISSIONS = ("categorical", "gaussian", "poisson", "nb")


def softmax(x):
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("emission", EMISSIONS)
def test_slopes_are_differences_of_the_likelihood(emission, rng):
    problem, _ = drawn(emission, rng)
    problem.family.prior = 0.7
    start = first_models(problem, 3, 2, "kmeans", 0)
    found = slopes_of(problem, problem.expected(problem.sweeps(2, 3), start), start)
    scale = {"means": np.sqrt(problem.family.overall)} if isinstance(problem.family, Gaussian) else {}
    for name, slope in found.items():
        here = start.emission[name] if name in start.emission else getattr(start, name)
        index = (1, *(0 for _ in here.shape[1:]))

        def value(step, name=name, here=here, index=index):
            """Log-likelihood and log prior over the positions, one free parameter moved."""
            if name in ("startprob", "transmat", "emissionprob"):
                free = np.log(here)
                free[index] += step
                moved = softmax(free)
            elif name in scale:
                moved = here.copy()
                moved[index] += step * scale[name][0]
            else:
                moved = here.copy()
                moved[index] *= np.exp(step)
            parts = {"startprob": start.startprob, "transmat": start.transmat, **start.emission, name: moved}
            model = Model(parts.pop("startprob"), parts.pop("transmat"), parts)
            total = problem.log_likelihood(model).sum(axis=1) + problem.log_prior(model)
            return total[1] / len(problem.packed.rows)

        assert slope[index] == pytest.approx((value(H) - value(-H)) / (2 * H), abs=1e-7), name


@pytest.mark.parametrize("emission", EMISSIONS)
def test_climbing_and_then_baum_welch_ends_where_baum_welch_does(emission, rng):
    problem, _ = drawn(emission, rng)
    starts = first_models(problem, 3, 2, "kmeans", 0)
    climbed, passes = climb(problem, starts, n_steps=60, tol=None, learning_rate=0.1)
    assert [len(values) for values in passes] == [61, 61]
    assert all(values.max() > values[0] + 1 for values in passes)
    value = problem.log_likelihood(climbed).sum(axis=1) + problem.log_prior(climbed)
    np.testing.assert_allclose(value, [values.max() for values in passes])
    best = fit(problem, climbed, max_iter=300, tol=1e-6).starts.max()
    assert best == pytest.approx(fit(problem, starts, max_iter=300, tol=1e-6).starts.max(), abs=0.05)


def test_what_may_not_be_learned_stays_and_zeros_stay(rng):
    problem, _ = drawn("gaussian", rng)
    start = first_models(problem, 3, 1, "kmeans", 0)
    start.transmat[0] = [[0.9, 0.1, 0], [0, 0.9, 0.1], [0.1, 0, 0.9]]
    fixed = replace(problem, learn=("transmat",))
    climbed, _ = climb(fixed, start, n_steps=5, tol=None, learning_rate=0.1)
    np.testing.assert_array_equal(climbed.emission["means"], start.emission["means"])
    np.testing.assert_array_equal(climbed.startprob, start.startprob)
    assert ((climbed.transmat == 0) == (start.transmat == 0)).all()
    assert np.abs(climbed.transmat - start.transmat).max() > 0.01
