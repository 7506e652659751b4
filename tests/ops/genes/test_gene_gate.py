"""Gates on genes: the ranking at the start, the declared gradient, the noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import optimize, sparse
from scipy.special import expit

from dbx.data import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.genes.gene_gate import GeneGate, best_first, soft_gate
from dbx.ops.genes.highly_variable import HighlyVariable
from dbx.ops.state import rebuild, state_arrays

N_CELLS, N_GENES = 90, 40


@pytest.fixture(scope="module")
def logs():
    rng = np.random.default_rng(0)
    means = rng.gamma(1.0, 1.5, (3, N_GENES))[rng.integers(0, 3, N_CELLS)]
    return np.log1p(rng.poisson(means)).astype(np.float32)


def fitted(x, **config):
    gate = GeneGate(**config)
    gate.fit(x=RowBlocks(x))
    return gate


def with_scores(gate, scores):
    return rebuild(
        GeneGate, gate.config, {**state_arrays(gate), "scores": ("parameter", np.asarray(scores, np.float32))}
    )


@pytest.mark.parametrize("method", ["top_k", "l0"])
def test_starts_at_the_ranking(logs, method):
    order = np.random.default_rng(1).permutation(N_GENES)
    gate = fitted(logs, n_genes=7, method=method, order=tuple(order.tolist()))
    assert set(np.flatnonzero(gate.open)) == set(order[:7])
    expected = np.where(np.isin(np.arange(N_GENES), order[:7]), logs, 0)
    np.testing.assert_array_equal(apply(gate, {"x": RowBlocks(logs)}, N_CELLS)["x"], expected)
    of_csr = apply(gate, {"x": RowBlocks(sparse.csr_matrix(logs))}, N_CELLS)["x"]
    assert of_csr.nnz == np.count_nonzero(expected)  # only open genes are stored
    np.testing.assert_array_equal(of_csr.toarray(), expected)


def test_without_an_order_the_genes_of_highly_variable_genes_are_open(logs):
    hvg = HighlyVariable(n_top_genes=5)
    hvg.fit(x=RowBlocks(logs))
    assert hvg.highly_variable[...].sum() == 5  # no ties at the edge
    np.testing.assert_array_equal(fitted(logs, n_genes=5).open, hvg.highly_variable[...])
    assert (best_first(np.array([1.0, np.nan, 3.0, 1.0])) == [2, 0, 3, 1]).all()


def test_top_k_is_a_hard_mask_with_the_gradient_of_its_surrogate(logs):
    gate = fitted(logs, n_genes=11, temperature=0.4)
    scores = np.random.default_rng(2).normal(size=N_GENES)
    graphdef, params, rest = nnx.split(with_scores(gate, scores), nnx.Param, ...)
    weight, x = np.random.default_rng(3).normal(size=logs.shape), jnp.asarray(logs)

    def loss(params):
        return (nnx.merge(graphdef, params, rest, copy=True)(x)["x"] * weight).sum()

    edge = np.sort(scores)[-12:-10].mean()

    def soft(scores):
        """Sigmoids about the edge at which they sum to what they do at the start."""
        sigmoids = [lambda e, s=s: expit((s - e) / 0.4) for s in (start, scores)]
        moved = optimize.brentq(lambda e: (sigmoids[1](e) - sigmoids[0](edge)).sum(), -20, 20, xtol=1e-15)
        return sigmoids[1](moved)

    start, effect, step = scores, (logs * weight).sum(axis=0), 1e-5
    slopes = [
        ((soft(scores + step * unit) - soft(scores - step * unit)) @ effect) / (2 * step) for unit in np.eye(N_GENES)
    ]
    # float32 against finite differences in float64
    gradient = np.asarray(jax.grad(loss)(params)["scores"][...])
    np.testing.assert_allclose(gradient, slopes, rtol=1e-3, atol=1e-4 * np.abs(slopes).max())
    assert abs(gradient.sum()) < 1e-4 * np.abs(gradient).sum()  # to raise all scores alike changes nothing
    np.testing.assert_array_equal(np.flatnonzero(with_scores(gate, scores).open), np.sort(np.argsort(scores)[-11:]))


@pytest.mark.parametrize("method", ["top_k", "l0"])
def test_noise_opens_gates_as_often_as_declared(logs, method):
    """10,000 draws: four standard errors of a share of at most .5 are .02. The edge of top_k moves a little with it."""
    gate = fitted(logs, n_genes=20, method=method, temperature=0.25)
    scores = np.random.default_rng(4).normal(size=N_GENES)
    gate = with_scores(gate, scores)

    def opened(key):
        graphdef, params, rest = nnx.split(gate, nnx.Param, ...)
        params = jax.tree.map(lambda value: value + gate.jitter(key)["scores"], params)
        return nnx.merge(graphdef, params, rest, copy=True)._gate() > 0

    draws = np.asarray(jax.vmap(opened)(jax.random.split(jax.random.key(0), 10_000)))
    if method == "top_k":
        assert (draws.sum(axis=1) == 20).all()
        np.testing.assert_allclose(draws.mean(axis=0), soft_gate(jnp.asarray(scores), 20, 0.25), atol=0.05)
    else:
        assert float(gate.expected_open()) == pytest.approx(draws.mean(), abs=0.005)


def test_l0_has_a_gradient_where_gates_are_shut_by_the_noise_alone(logs):
    gate = fitted(logs, n_genes=5, method="l0")
    assert float(gate.expected_open()) == pytest.approx((5 * 0.98 + 5) / 40, rel=1e-5)
    graphdef, params, rest = nnx.split(gate, nnx.Param, ...)

    def total(params, noise):
        params = jax.tree.map(lambda value: value + noise, params)
        return nnx.merge(graphdef, params, rest, copy=True)(jnp.ones((1, N_GENES)))["x"].sum()

    still = jax.grad(total)(params, 0.0)["scores"][...]
    assert (np.asarray(still) == 0).all()  # all fully open or shut
    shut = ~gate.open
    lifted = np.asarray(jax.grad(total)(params, 3.8)["scores"][...])
    assert (lifted[shut] > 0).all()


def test_temperature_softens_the_gates(logs):
    scores = jnp.linspace(-1, 1, 10)
    assert float(soft_gate(scores, 5, 1.0)[0]) > float(soft_gate(scores, 5, 0.1)[0])
    half = [float(with_scores(fitted(logs, n_genes=5, method="l0", temperature=t), np.full(40, 0.5))._gate()[0])
            for t in (0.2, 2.0)]  # fmt: skip
    assert half[0] == 1
    assert 0.5 < half[1] < 0.7


def test_what_cannot_be_is_said(logs):
    with pytest.raises(ValueError, match="n_genes=41 is more than the 40 genes"):
        fitted(logs, n_genes=41)
    with pytest.raises(ValueError, match="n_genes must be at least .*; got 0"):
        GeneGate(n_genes=0)
    with pytest.raises(ValueError, match="method must be one of 'top_k', 'l0'; got 'top'"):
        GeneGate(method="top")
    with pytest.raises(ValueError, match="temperature must be above 0; got 0"):
        GeneGate(temperature=0)
    with pytest.raises(ValueError, match="name each of the 40 once"):
        fitted(logs, order=(0, 0), n_genes=2)
    with pytest.raises(ValueError, match=r'values below zero.*by="dispersions_norm"'):
        fitted(logs - 1, n_genes=2)
    with pytest.raises(ValueError, match="top_k.*always has 11 open genes"):
        fitted(logs, n_genes=11).expected_open()
    all_open = fitted(logs, n_genes=40)
    assert all_open.open.all()


@pytest.mark.parametrize("k", [1, 8, 30, 40])
def test_the_default_temperature_opens_as_many_other_genes(logs, k):
    gate = fitted(logs, n_genes=k)
    softness = float(gate.softness[...])
    shut = np.sort(gate.score)[: N_GENES - k]
    opened = float(soft_gate(jnp.asarray(gate.score), k, softness)[jnp.argsort(gate.score)[: N_GENES - k]].sum())
    assert opened == pytest.approx(min(k, len(shut) / 4), rel=1e-3, abs=1e-6)
    assert float(fitted(logs, n_genes=k, temperature=0.3).softness[...]) == pytest.approx(0.3)
