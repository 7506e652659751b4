"""Gradients of networks and of ligand-receptor scores in raw counts, through the recorded steps before them."""

import anndata as ad
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dbx
from dbx.data import RowBlocks
from dbx.ops import GRN, LigandReceptor
from dbx.program import as_codes

N_GENES = 8


@pytest.fixture(scope="module")
def program():
    """(cells with logarithms, the pipeline that computes them, the counts)."""
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], 20)
    means = rng.gamma(3.0, 1.0, N_GENES) * np.exp(rng.normal(0, 0.5, (3, N_GENES)))[group]
    counts = (1 + rng.poisson(means)).astype(np.float32)
    adata = ad.AnnData(counts.copy(), obs={"group": np.array(["a", "b", "c"])[group]})
    adata.obs["group"] = adata.obs["group"].astype("category")
    dbx.pp.normalize_total(adata, target_sum=100)
    dbx.pp.log1p(adata)
    return adata, dbx.Pipeline.from_adata(adata), counts.astype(np.float64)


def network(adata):
    """Partial correlations."""
    operator = GRN(regulators=(0, 1, 2), targets=(1, 4, 5), method="partial")
    operator.fit(x=RowBlocks(adata.X))
    return operator, operator.weights


def pairs(adata):
    """Scores of a pair and of a pair with a complex."""
    operator = LigandReceptor(
        ligands=("L", "M"), receptors=("R", "S_T"), ligand_columns=((0,), (1,)), receptor_columns=((2,), (3, 4))
    )
    codes = as_codes(adata.obs["group"])
    operator.fit(x=RowBlocks(adata.X, dtype=np.float64), labels=codes)
    return operator, lambda x: operator.scores(x, codes.codes)


@pytest.mark.parametrize("made", [network, pairs])
def test_gradients_in_counts_agree_with_finite_differences(program, made):
    adata, pipeline, counts = program
    _, values = made(adata)
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        weights = rng.normal(size=values(jnp.asarray(adata.X, jnp.float64)).shape)
        objective = jax.jit(lambda x: (weights * values(pipeline({}, {"X": x})["X"])).sum())
        gradient = jax.grad(objective)(jnp.asarray(counts))
        step = 1e-5 * rng.normal(size=counts.shape)
        change = float(objective(counts + step) - objective(counts - step)) / 2
    assert abs(change) > 1e-7
    np.testing.assert_allclose(float((gradient * step).sum()), change, rtol=1e-5)


def test_weights_are_the_importances_with_their_signs(program):
    adata, _, _ = program
    operator, weights = network(adata)
    edges, found = operator.edges.columns, np.asarray(weights(adata.X.astype(np.float64)))
    for regulator, target, importance, sign in zip(
        *(edges[name] for name in ("TF", "target", "importance", "sign")), strict=True
    ):
        value = found[(0, 1, 2).index(regulator), (1, 4, 5).index(target)]
        np.testing.assert_allclose(value, sign * importance, rtol=1e-10)
    assert found[1, 0] == 0  # a gene and itself


def test_other_networks_have_no_gradient():
    with pytest.raises(ValueError, match='Only method="partial".*trees'):
        GRN(regulators=(0, 1)).weights(np.ones((5, 3)))
