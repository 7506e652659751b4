"""Macrostates: Schur vectors beside SciPy's, memberships beside what was designed, at least as crisp as pyGPCCA's."""

import numpy as np
import pytest
from scipy import linalg, sparse

from dbx._warnings import DbxWarning
from dbx.ops import Macrostates
from dbx.ops.diffusion import schur
from dbx.ops.diffusion.gpcca import coarse_transitions, crispness, memberships
from dbx.ops.diffusion.schur import leading_schur


def blocks(sizes=(40, 30, 50), *, leak=0.01, seed=0):
    """Dense transitions that stay in their block but for a share, and each cell's block."""
    rng = np.random.default_rng(seed)
    block = np.repeat(np.arange(len(sizes)), sizes)
    within = block[:, None] == block
    inside, outside = (rng.uniform(0.5, 1, within.shape) * mask for mask in (within, ~within))
    inside, outside = (x / x.sum(axis=1, keepdims=True) for x in (inside, outside))
    return (1 - leak) * inside + leak * outside, block


def ring(n=60):
    """A walk around a ring, biased to one side: complex eigenvalues."""
    steps = np.roll(np.eye(n), 1, axis=1)
    return 0.1 * np.eye(n) + 0.7 * steps + 0.2 * steps.T


@pytest.mark.parametrize("solver", ["dense", "sparse"])
@pytest.mark.parametrize("made", [lambda: blocks()[0], ring], ids=["blocks", "ring"])
def test_schur_vectors_span_what_scipys_schur_form_does(monkeypatch, solver, made):
    monkeypatch.setattr(schur, "SMALL", 500 if solver == "dense" else 0)
    transitions = made()
    found = leading_schur(sparse.csr_matrix(transitions), 5)
    k = len(found.values)
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(k), atol=1e-12)
    triangular = found.vectors.T @ transitions @ found.vectors
    np.testing.assert_allclose(transitions @ found.vectors, found.vectors @ triangular, atol=1e-9)
    for n in [n for n in range(1, k + 1) if not found.splits_pair(n)]:
        bound = (found.values[n - 1].real + (found.values[n].real if n < k else -1)) / 2
        if n == k:
            bound = found.values[n - 1].real - 1e-6
        _, vectors, n_above = linalg.schur(transitions, output="real", sort=lambda re, im=0, bound=bound: re > bound)
        assert n_above == n
        mine, theirs = found.vectors[:, :n], vectors[:, :n]
        np.testing.assert_allclose(mine @ mine.T, theirs @ theirs.T, atol=1e-8)  # the same span


def test_memberships_are_the_blocks_that_were_made():
    transitions, block = blocks()
    chi = memberships(leading_schur(sparse.csr_matrix(transitions), 3).vectors)
    np.testing.assert_allclose(chi.sum(axis=1), 1, atol=1e-12)
    assert chi.min() >= 0
    assert len(np.unique(np.column_stack([chi.argmax(axis=1), block]), axis=0)) == 3
    assert chi.max(axis=1).min() > 0.9
    coarse = coarse_transitions(sparse.csr_matrix(transitions), chi)
    np.testing.assert_allclose(np.diag(coarse), 0.99, atol=0.002)


CRISPNESS = {3: 0.6085522, 4: 0.6500260, 5: 0.6840701}
"""Of pyGPCCA 1.0.4 on the same Schur vectors."""


@pytest.mark.parametrize("n", CRISPNESS)
def test_as_crisp_as_pygpcca(n):
    vectors = leading_schur(sparse.csr_matrix(smooth()), n).vectors
    chi = memberships(vectors)
    a = vectors.T @ chi / len(vectors) ** 0.5
    assert crispness(a) > CRISPNESS[n] - 1e-6


def smooth():
    """A random walk along four arms with a common start, in 120 cells."""
    rng = np.random.default_rng(1)
    arm, far = np.arange(120) % 4, rng.random(120)
    places = far[:, None] * np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])[arm] + rng.normal(0, 0.03, (120, 2))
    kernel = np.exp(-((places[:, None] - places) ** 2).sum(axis=2) / 0.02)
    return kernel / kernel.sum(axis=1, keepdims=True)


def fitted(transitions, **settings):
    operator = Macrostates(kernel="given", **settings)
    operator.fit(graph=sparse.csr_matrix(transitions))
    return operator


def test_states_are_found_by_the_gap_and_those_that_stay_are_ends():
    transitions, block = blocks()
    transitions[block == 1] *= 0.9  # a state that is left for the others
    transitions[np.ix_(block == 1, block != 1)] += 0.1 / (block != 1).sum()
    operator = fitted(transitions, n_cells=7)
    states, ends = operator.states.get_value(), operator.ends.get_value()
    assert states.levels == ("1", "2", "3")
    assert ends.levels == ("1", "2")
    assert (np.bincount(states.codes + 1) == [120 - 21, 7, 7, 7]).all()
    np.testing.assert_array_equal(ends.codes, np.where(states.codes < 2, states.codes, -1))
    assert set(block[ends.codes >= 0]) == {0, 2}
    assert set(block[states.codes == 2]) == {1}
    assert (np.diff(np.diag(np.asarray(operator.coarse[...]))) <= 0).all()


def test_a_pair_of_conjugate_eigenvalues_is_not_split():
    with pytest.raises(ValueError, match="split a pair of conjugate eigenvalues: pass 3"):
        fitted(ring(), n_states=2)


def test_without_a_stable_state_the_most_stable_one_is_the_end():
    with pytest.warns(DbxWarning, match="the most stable one is taken, with 0.8"):
        operator = fitted(blocks(leak=0.15)[0])
    assert operator.ends.get_value().levels == ("1",)


def test_too_many_states():
    with pytest.raises(ValueError, match="n_states=50 are too many for 12 cells: pass at most 12"):
        fitted(blocks((6, 6))[0], n_states=50)
