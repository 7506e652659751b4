"""Messages beside hmmlearn's stored results, all paths one by one, and derivatives of the likelihood."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from dbx.losses.hidden_markov import by_pieces, by_tree, hmm_log_likelihood, markov_messages
from dbx.ops.hmm.log_messages import log_expected
from dbx.ops.hmm.messages import RangeError, Sweeps
from dbx.ops.hmm.packed import pack
from dbx.ops.hmm.viterbi import viterbi

START = np.array([[0.6, 0.4], [1.0, 0.0]])
MOVES = np.array([[[0.9, 0.1], [0.0, 1.0]], [[0.5, 0.5], [0.3, 0.7]]])
LENGTHS = (1, 6, 3)


def logs(x):
    with np.errstate(divide="ignore"):
        return np.log(x)


@pytest.fixture
def small(rng):
    """Two models of three sequences; rows of sequences are mixed."""
    sequence = rng.permutation(np.repeat(np.arange(3), LENGTHS))
    return pack(sequence), rng.normal(size=(2, 2, sum(LENGTHS)))


def by_paths(emission, start, moves):
    """Log-likelihood, posteriors and best path of one sequence by enumeration; ``emission`` is (n_states, n)."""
    n_states, n = emission.shape
    paths = list(itertools.product(range(n_states), repeat=n))
    score = [
        logs(start)[p[0]] + sum(logs(moves)[a, b] for a, b in itertools.pairwise(p)) + emission[p, range(n)].sum()
        for p in paths
    ]
    total = logsumexp(score)
    weight = np.exp(np.array(score) - total)
    states = np.array(paths)
    posterior = [[weight[states[:, t] == k].sum() for t in range(n)] for k in range(n_states)]
    return total, np.array(posterior), states[int(np.argmax(score))]


@pytest.mark.parametrize("engine", ["scaled", "logarithms"])
def test_as_all_paths_one_by_one(small, engine):
    packed, emission = small
    if engine == "scaled":
        sweeps = Sweeps(packed, 2, 2)
        sweeps.emission[...] = emission
        found = sweeps.expected(START, MOVES)
        predictive = sweeps.predictive()
    else:
        found = log_expected(packed, emission, START, MOVES)
        predictive = found.predictive
    for model, number in itertools.product(range(2), range(3)):
        at = packed.ordered[np.flatnonzero(packed.sequence[packed.ordered] == number)]
        total, posterior, path = by_paths(emission[model][:, at], START[model], MOVES[model])
        assert found.log_likelihood[model, number] == pytest.approx(total, abs=1e-12)
        np.testing.assert_allclose(found.posterior[model][:, at], posterior, atol=1e-12)
        assert predictive[model, at].sum() == pytest.approx(total, abs=1e-12)
        states = viterbi(packed, emission[model], START[model], MOVES[model])
        np.testing.assert_array_equal(states[at], path)
    assert found.transitions[0, 1, 0] == 0
    np.testing.assert_allclose(found.transitions.sum(axis=(1, 2)), sum(LENGTHS) - 3)


def test_pieces_of_long_sequences_fit_together(rng):
    """A sequence of 3,000 is swept in pieces, and gives what one recursion in logarithms gives."""
    n = 3000
    emission = rng.normal(size=(1, 2, n)) * 3
    packed = pack(np.zeros(n, int))
    assert packed.n_lanes > 20
    sweeps = Sweeps(packed, 1, 2)
    sweeps.emission[...] = emission[:, :, packed.rows]
    found = sweeps.expected(START[:1], MOVES[1:])
    plain = log_expected(packed, emission[:, :, packed.rows], START[:1], MOVES[1:])
    np.testing.assert_allclose(found.log_likelihood, plain.log_likelihood, rtol=1e-13)
    np.testing.assert_allclose(found.posterior, plain.posterior, atol=1e-12)
    np.testing.assert_allclose(found.transitions, plain.transitions, rtol=1e-10)
    np.testing.assert_allclose(sweeps.predictive(), plain.predictive, atol=1e-11)


@pytest.mark.parametrize("zeros", [(), ((0, 1), (1, 0), (2, 1), (2, 2))])
def test_best_path_of_pieces(rng, zeros):
    """As one recursion over 2,000 positions, with all transitions and with some that are impossible."""
    n, moves = 2000, rng.dirichlet(np.ones(3), 3) + 0.05
    for place in zeros:
        moves[place] = 0
    moves /= moves.sum(axis=1, keepdims=True)
    start, emission = np.array([0.5, 0.3, 0.2]), rng.normal(size=(3, n))
    score, before = logs(start) + emission[:, 0], np.zeros((n, 3), int)
    for t in range(1, n):
        paths = score[:, None] + logs(moves)
        before[t], score = paths.argmax(axis=0), paths.max(axis=0) + emission[:, t]
    states = [int(score.argmax())]
    for t in range(n - 1, 0, -1):
        states.append(int(before[t, states[-1]]))
    packed = pack(np.zeros(n, int))
    found = viterbi(packed, emission[:, packed.rows], start, moves)
    np.testing.assert_array_equal(found[packed.ordered], states[::-1])


def test_probabilities_beyond_the_range_of_numbers_go_by_logarithms():
    """The second state cannot be left, although the first is e^5000 times as probable at each later position."""
    emission = np.zeros((1, 2, 40))
    emission[0, 0, 0], emission[0, 1, 1:] = -5000, -5000
    packed = pack(np.zeros(40, int))
    sweeps = Sweeps(packed, 1, 2)
    sweeps.emission[...] = emission
    with pytest.raises(RangeError):
        sweeps.expected(START[:1], MOVES[:1])
    found = log_expected(packed, emission, START[:1], MOVES[:1])
    # to begin in the first state, at e^-5000 once, is better than to stay in the second
    assert found.log_likelihood[0, 0] == pytest.approx(np.log(0.6) - 5000 + 39 * np.log(0.9))
    emission[0, 1] = -np.inf
    emission[0, 0, -1] = -np.inf
    with pytest.raises(ValueError, match="probability zero"):
        log_expected(packed, emission, START[:1], MOVES[:1])


def test_derivatives_are_expected_counts(rng):
    """Fisher's identity, and no NaN where a transition is impossible; padding and normalisation change nothing."""
    emission = rng.normal(size=(3, 6, 2))
    lengths = np.array(LENGTHS)
    packed = pack(np.repeat(np.arange(3), lengths))
    flat = np.concatenate([emission[i, :n] for i, n in enumerate(lengths)])
    sweeps = Sweeps(packed, 1, 2)
    sweeps.emission[...] = flat[packed.rows].T
    found = sweeps.expected(START[:1], MOVES[:1])
    with jax.enable_x64(True):
        start, moves = logs(START[0]), logs(MOVES[0])
        value = jax.jit(hmm_log_likelihood)(start + 3, moves - 2, emission, lengths)
        np.testing.assert_allclose(value, found.log_likelihood[0], rtol=1e-12)

        def total(start, moves, emission):
            return hmm_log_likelihood(start, moves, emission, lengths).sum()

        slopes = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(
            jnp.asarray(start), jnp.asarray(moves), jnp.asarray(emission)
        )
        begins = np.zeros(len(flat), bool)
        begins[[0, *np.cumsum(lengths)[:-1]]] = True
        messages = jax.jit(markov_messages)(
            jnp.asarray(start), jnp.asarray(moves), jnp.asarray(flat), jnp.asarray(begins)
        )
    # through the normalisation the derivative is counts minus what they would be without the data
    counts, starts = found.transitions[0], found.starts[0]
    np.testing.assert_allclose(slopes[1], counts - counts.sum(axis=1, keepdims=True) * MOVES[0], atol=1e-9)
    np.testing.assert_allclose(slopes[0], starts - starts.sum() * START[0], atol=1e-9)
    posterior = np.empty((len(flat), 2))
    posterior[packed.rows] = found.posterior[0].T
    real = np.arange(6) < lengths[:, None]
    np.testing.assert_allclose(np.asarray(slopes[2])[real], posterior, atol=1e-9)
    assert (np.asarray(slopes[2])[~real] == 0).all()
    np.testing.assert_allclose(np.exp(messages.log_posterior), posterior, atol=1e-12)
    np.testing.assert_allclose(np.asarray(messages.log_predictive).sum(), found.log_likelihood.sum(), rtol=1e-12)


@pytest.mark.parametrize(("dtype", "n"), [(np.float32, 12), (np.float64, 80)])
def test_a_state_that_is_lost_and_cannot_be_reached_again_is_noticed(dtype, n):
    """Evidence of 10 nats a position is first for the second state, which cannot be left, and then for the first."""
    emission = np.zeros((1, 2, 3 * n))
    emission[0, 0, :n], emission[0, 1, n:] = -10, -10
    packed = pack(np.zeros(3 * n, int))
    sweeps = Sweeps(packed, 1, 2, dtype)
    sweeps.emission[...] = emission[:, :, packed.rows]
    with pytest.raises(RangeError):
        sweeps.expected(START[:1], MOVES[:1])
    sweeps.emission[...] = emission[:, :, packed.rows]
    with pytest.raises(RangeError):
        sweeps.log_likelihood(START[:1], MOVES[:1])
    posterior = log_expected(packed, emission[:, :, packed.rows], START[:1], MOVES[:1]).posterior
    assert posterior[0, 0].mean() > 0.99


def test_an_unlikely_value_is_no_reason_for_logarithms():
    """A state that cannot have emitted a value, by 100 nats, where all transitions are possible."""
    emission = np.zeros((1, 2, 3000))
    emission[0, 0, ::7] = -100
    packed = pack(np.zeros(3000, int))
    sweeps = Sweeps(packed, 1, 2)
    sweeps.emission[...] = emission[:, :, packed.rows]
    found = sweeps.expected(np.array([[0.5, 0.5]]), MOVES[1:])
    plain = log_expected(packed, emission[:, :, packed.rows], np.array([[0.5, 0.5]]), MOVES[1:])
    np.testing.assert_allclose(found.log_likelihood, plain.log_likelihood, rtol=1e-12)


def test_by_tree_as_by_pieces(rng):
    """Messages of a GPU are those of a CPU, with impossible moves, and so are their derivatives."""
    with jax.enable_x64(True):
        moves = jnp.asarray(rng.normal(size=(150, 3, 3)) * 4).at[:, 2, 0].set(-jnp.inf)
        start = jnp.log(jnp.array([0.5, 0.3, 0.2]))
        one, two = (jax.jit(way)(moves, start) for way in (by_pieces, by_tree))
        np.testing.assert_allclose(two[0], one[0], atol=1e-10)
        np.testing.assert_allclose(two[1], one[1], atol=1e-10)
        slopes = [jax.jit(jax.grad(lambda m, way=way: way(m, start)[1].sum()))(moves) for way in (by_pieces, by_tree)]
        np.testing.assert_allclose(*slopes, atol=1e-10)
