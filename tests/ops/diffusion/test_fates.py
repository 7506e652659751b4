"""Fate probabilities beside a dense solve, CellRank's transitions and simulated walks."""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from dbx._warnings import DbxWarning
from dbx.ops.apply import apply
from dbx.ops.diffusion.absorption import AbsorbingWalk, NotConvergedError
from dbx.ops.diffusion.fates import FateProbabilities
from dbx.ops.diffusion.walks import Bias, by_connectivity, by_pseudotime
from dbx.ops.values import Codes, Edges, Graph

pytestmark = pytest.mark.filterwarnings("ignore:One cell stands for the terminal state")

REFERENCE = Path(__file__).parents[2] / "reference" / "cellrank_transitions.npz"


@pytest.fixture
def graph():
    """A symmetric graph of 80 cells around a ring, in one component."""
    rng = np.random.default_rng(3)
    n = 80
    near = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    near = np.minimum(near, n - near)
    weights = rng.uniform(0.1, 1, (n, n)) * ((near > 0) & (near <= 4))
    return sparse.csr_matrix(np.maximum(weights, weights.T).astype(np.float32))


def ends_of(*groups: list[int], n: int = 80) -> Codes:
    codes = np.full(n, -1, np.int32)
    for number, cells in enumerate(groups):
        codes[cells] = number
    return Codes(codes, tuple("abcdef"[: len(groups)]))


def outputs(operator, graph, time=None):
    call = {"graph": Edges(graph, np.arange(graph.shape[0], dtype=np.int32))}
    if time is not None:
        call["time"] = {"t": time}
    return apply(operator, call, graph.shape[0])


def dense_fates(transitions: np.ndarray, codes: np.ndarray, n_ends: int):
    """Fates, and mean and variance of steps, by the definitions and NumPy's inverse."""
    free = codes < 0
    inverse = np.linalg.inv(np.eye(free.sum()) - transitions[free][:, free])
    fates = np.eye(n_ends)[codes]
    fates[free] = inverse @ np.stack([transitions[free][:, codes == k].sum(axis=1) for k in range(n_ends)], axis=1)
    mean = inverse.sum(axis=1)
    steps = np.zeros((len(codes), 2))
    steps[free] = np.stack([mean, (2 * inverse - np.eye(free.sum())) @ mean - mean**2], axis=1)
    return fates, steps


def dense_transitions(graph, time, *, kernel: str, scheme: str = "hard") -> np.ndarray:
    """Transitions cell by cell."""
    weights = graph.toarray().astype(float)
    made = np.zeros_like(weights)
    density = weights.sum(axis=1)
    for i, row in enumerate(weights):
        if kernel == "connectivity":
            made[i] = row / (density[i] * density)
            continue
        others = np.flatnonzero(row)
        if scheme == "soft":
            for j in others:
                back = time[i] - time[j]
                made[i, j] = row[j] * (2 / (1 + np.exp(10 * back)) ** 2 if back > 0 else 1)
        else:
            strongest = others[np.argsort(-row[others], kind="stable")][: int(0.3 * len(others))]
            made[i, others] = [row[j] if j in strongest or time[j] >= time[i] else 0 for j in others]
    return made / made.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("solver", ["direct", "iterative"])
@pytest.mark.parametrize(
    ("kernel", "scheme"), [("connectivity", "hard"), ("pseudotime", "hard"), ("pseudotime", "soft")]
)
def test_fates_and_steps_as_by_a_dense_solve(graph, kernel, scheme, solver):
    """1e-6 is ``tol``; the direct solver is at rounding."""
    time = np.abs(np.arange(80) - 40) / 40.0
    ends = ends_of([38, 39, 40], [0, 1], [20])
    operator = FateProbabilities(kernel=kernel, scheme=scheme, solver=solver)
    times = {"t": time} if kernel == "pseudotime" else None
    operator.fit(graph=graph, ends=ends, time=times)
    found = outputs(operator, graph, None if times is None else time)
    transitions = dense_transitions(graph, time, kernel=kernel, scheme=scheme)
    np.testing.assert_allclose(found["transitions"].to_csr().toarray(), transitions, atol=1e-12)
    fates, steps = dense_fates(transitions, ends.codes, 3)
    atol = 1e-6 if solver == "iterative" else 1e-11
    np.testing.assert_allclose(found["fates"], fates, atol=atol)
    np.testing.assert_allclose(found["steps"], steps, rtol=1e-6 if solver == "iterative" else 1e-9)
    np.testing.assert_array_equal(found["states"].codes, ends.codes)


@pytest.mark.parametrize("kernel", ["connectivity", "pseudotime_soft", "pseudotime_hard"])
def test_transitions_as_cellranks(kernel):
    """Stored rows of CellRank 2.3.3 on paul15 (30 neighbours), in float32."""
    stored = np.load(REFERENCE)
    shape = (len(stored["rows"]), len(stored["time"]))
    entries = (stored["weight"].astype(np.float64), (stored["row"], stored["column"]))
    graph = Graph.from_csr(sparse.csr_matrix(entries, shape=shape), rows=stored["rows"])
    time = stored["time"].astype(np.float64)
    if kernel == "connectivity":
        weights = by_connectivity(graph, stored["density"].astype(np.float64))
    else:
        bias = Bias(kernel.removeprefix("pseudotime_"), 0.3, 10.0, 0.5)
        weights = by_pseudotime(graph, time[stored["rows"]], time, bias)
    found = Graph(graph.indices, np.asarray(weights), graph.rows, shape[1]).to_csr()
    expected = sparse.csr_matrix((stored[kernel], (stored[f"{kernel}_row"], stored[f"{kernel}_column"])), shape=shape)
    np.testing.assert_allclose(found.toarray(), expected.toarray(), atol=1e-6)
    assert found.nnz == expected.nnz


def test_as_walks_that_are_simulated(graph):
    """2,000 walks: three standard errors of a share are below .034, of a mean below 7%."""
    transitions = dense_transitions(graph, None, kernel="connectivity")
    ends = ends_of([0], [30], [50])
    found = AbsorbingWalk(sparse.csr_matrix(transitions), ends.codes, 3).absorbed()
    rng, cells, cumulated = np.random.default_rng(0), np.full(2_000, 15), transitions.cumsum(axis=1)
    steps = np.zeros(2_000)
    while (walking := ends.codes[cells] < 0).any():
        cells[walking] = (rng.random(walking.sum())[:, None] > cumulated[cells[walking]]).sum(axis=1)
        steps[walking] += 1
    shares = np.bincount(ends.codes[cells], minlength=3) / 2_000
    np.testing.assert_allclose(found.fates[15], shares, atol=0.034)
    np.testing.assert_allclose(found.steps[15, 0], steps.mean(), rtol=3 * steps.std() / np.sqrt(2_000) / steps.mean())
    np.testing.assert_allclose(found.steps[15, 1], steps.var(), rtol=0.25)


def test_cells_that_reach_no_end_are_nan_and_left_out(graph):
    """A dead end that walks enter, and a part of its own: the others are as if it were not there."""
    given = sparse.lil_matrix(dense_transitions(graph, None, kernel="connectivity"))
    given[10] = 0
    given[10, 10] = 1
    ends = ends_of([0], [40])
    operator = FateProbabilities(kernel="given")
    with pytest.warns(DbxWarning, match="1 of 80 cells reach no terminal state"):
        operator.fit(graph=sparse.csr_matrix(given), ends=ends)
    fates = outputs(operator, sparse.csr_matrix(given))["fates"]
    without = given.toarray()
    without[:, 10] = 0
    without[10, 11] = 1
    expected, _ = dense_fates(without / without.sum(axis=1, keepdims=True), ends.codes, 2)
    assert np.isnan(fates[10]).all()
    np.testing.assert_allclose(np.delete(fates, 10, 0), np.delete(expected, 10, 0), atol=1e-11)


def test_only_end(graph):
    operator = FateProbabilities(kernel="connectivity")
    with pytest.warns(DbxWarning, match="one terminal state only, 'a'"):
        operator.fit(graph=graph, ends=ends_of([0, 1]))
    np.testing.assert_allclose(outputs(operator, graph)["fates"], 1, atol=1e-12)


def test_what_does_not_converge_is_an_error():
    """A walk that leaves one of two halves once in 1e13 steps, where rounding bounds no error."""
    n = 400
    near = sparse.diags([np.ones(n - 1), np.ones(n - 1)], [-1, 1]).tolil()
    near[199, 200] = near[200, 199] = 1e-13
    transitions = sparse.csr_matrix(near)
    transitions = sparse.csr_matrix(sparse.diags(1 / np.asarray(transitions.sum(axis=1)).ravel()) @ transitions)
    codes = np.full(n, -1)
    codes[0] = 0
    with pytest.raises(NotConvergedError, match=r"solver=|did not converge"):
        AbsorbingWalk(transitions, codes, 1, "iterative").absorbed()


def test_new_cells_by_their_neighbours(graph):
    """f = T_q F of a new cell with edges to the past of its own time dropped."""
    time = np.arange(80) / 80.0
    operator = FateProbabilities(frac_to_keep=0.0)
    operator.fit(graph=graph, ends=ends_of([78], [79]), time={"t": time})
    stored = outputs(operator, graph, time)
    new = sparse.csr_matrix(([0.2, 0.5, 0.3], ([0, 0, 0], [10, 20, 60])), shape=(1, 80))
    call = {"graph": Edges(new, np.array([-1], np.int32)), "time": {"t": np.array([0.2])}}
    found = apply(operator, call, 1)
    share = np.array([0.5, 0.3]) / 0.8
    np.testing.assert_allclose(found["fates"][0], share @ stored["fates"][[20, 60]], atol=1e-12)
    mean = stored["steps"][[20, 60], 0]
    square = stored["steps"][[20, 60], 1] + (mean + 1) ** 2
    expected = [1 + share @ mean, share @ square - (1 + share @ mean) ** 2]
    np.testing.assert_allclose(found["steps"][0], expected, rtol=1e-9)


def test_iterations_take_large_graphs():
    """6,000 cells on a cylinder, beyond the direct solver, against NumPy's banded view of the same system."""
    n, width = 6_000, 12
    i = np.arange(n)
    pairs = np.concatenate([np.stack([i, np.minimum(i + d, n - 1)]) for d in range(1, width)], axis=1)
    pairs = pairs[:, pairs[0] != pairs[1]]
    weights = np.random.default_rng(0).uniform(0.5, 1, pairs.shape[1])
    half = sparse.csr_matrix((weights, pairs), shape=(n, n))
    full = half + half.T
    transitions = sparse.csr_matrix(sparse.diags(1 / np.asarray(full.sum(axis=1)).ravel()) @ full)
    codes = np.full(n, -1)
    codes[::500] = 0
    codes[250::500] = 1
    slow, fast = (AbsorbingWalk(transitions, codes, 2, solver).absorbed() for solver in ("direct", "auto"))
    np.testing.assert_allclose(slow.fates, fast.fates, atol=1e-6)
    np.testing.assert_allclose(slow.steps, fast.steps, rtol=1e-5)
