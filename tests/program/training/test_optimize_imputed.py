"""Training through MAGIC: its kernel follows the components, and how far it smooths is a trainable mixture."""

import anndata as ad
import numpy as np
import pytest

import dbx
from dbx.losses import Ordering
from dbx.ops.state import state_arrays

N_CELLS = 120
QUICK = {"max_epochs": 8, "learning_rate": 5e-3, "anchor": 0.0}


def values(seed: int) -> ad.AnnData:
    """A short time in some genes under noise that averages over neighbours remove."""
    rng = np.random.default_rng(seed)
    time = rng.uniform(0, 1, N_CELLS)
    x = np.outer(time, np.linspace(1, 3, 10)) + rng.normal(0, 0.6, (N_CELLS, 10)) + 3
    adata = ad.AnnData(x.astype(np.float32))
    adata.obs_names = [f"cell {seed} {i}" for i in range(N_CELLS)]
    adata.obs["hours"] = np.floor(time * 4) * 24
    adata.uns["iroot"] = int(time.argmin())
    return adata


@pytest.fixture(scope="module")
def before():
    adata = values(0)
    dbx.pp.pca(adata, n_comps=4)
    dbx.pp.magic(adata, use_rep="X_pca", t=1)
    dbx.pp.pca(adata, n_comps=3, layer="magic", key_added="imputed")
    dbx.pp.neighbors(adata, n_neighbors=12, use_rep="imputed")
    dbx.tl.diffmap(adata, n_comps=6)
    dbx.tl.dpt(adata, n_dcs=6)
    return adata


def spread(z):
    """A loss of each cell that more smoothing lowers."""
    return ((z - z.mean(axis=0)) ** 2).sum(axis=1)


@pytest.fixture(scope="module")
def smoother(before):
    return dbx.optimize(before, spread, train=["magic"], copy=True, **QUICK)


def test_the_number_of_steps_is_trained(before, smoother):
    assert smoother.uns["optimize"]["kept"].all()
    powers = smoother.uns["magic"]["powers"]
    np.testing.assert_array_equal(before.uns["magic"]["powers"], [0, 1, 0])
    assert powers.sum() == pytest.approx(1)
    assert powers[2] > 0.05 > powers[0], "two steps smooth more than the one that it started from"
    expected = mixed(smoother, powers)
    np.testing.assert_allclose(smoother.layers["magic"], expected, rtol=1e-4)
    assert smoother.layers["magic"].std() < before.layers["magic"].std()


def mixed(adata, powers):
    kernel = adata.obsp["magic_connectivities"].toarray()
    walk = kernel / kernel.sum(axis=1, keepdims=True)
    return sum(w * np.linalg.matrix_power(walk, k) @ adata.X for k, w in enumerate(powers))


def test_new_cells_get_the_trained_mixture(before, smoother):
    rougher = dbx.optimize(before, lambda z: -spread(z), train=["magic"], copy=True, **QUICK)
    assert rougher.uns["magic"]["powers"][0] > 0.05, "with the cell's own values"
    for after in (smoother, rougher):
        own, query = after.copy(), values(1)
        dbx.rerun(own, reference=after, steps=["magic"])
        np.testing.assert_array_equal(own.layers["magic"], after.layers["magic"])
        dbx.rerun(query, reference=after, steps=["magic"])
        powers, row = after.uns["magic"]["powers"], query.obsm["reference_magic_connectivities"].toarray()
        row = row / row.sum(axis=1, keepdims=True)
        expected = powers[0] * query.X + row @ mixed(after, powers[1:])
        np.testing.assert_allclose(query.layers["magic"], expected, rtol=1e-4)


def test_pseudotime_is_trained_through_the_steps(before):
    after = dbx.optimize(before, Ordering("hours"), train=["magic"], key_added="timed", copy=True, **QUICK)
    history = after.uns["optimize"]["history"]["loss"]
    assert history[-1] < history[0]
    query = values(1)
    dbx.rerun(query, reference=after, steps=["dpt_timed"])
    assert query.obs["dpt_pseudotime_timed"].notna().all()


def test_in_single_precision_the_kernel_is_the_stored_one(before):
    """Rounding of distances does not drop the farthest neighbour that counts."""
    pipeline = dbx.Pipeline.from_adata(before, steps=["magic"])
    rows = np.arange(N_CELLS, dtype=np.int32)
    found, _ = pipeline.trace(pipeline.parameters, pipeline.read(before), rows=rows, together=True)
    kernel = found["obsp/magic_connectivities"]
    assert kernel.weights.dtype == np.float32
    np.testing.assert_allclose(kernel.to_csr().toarray(), before.obsp["magic_connectivities"].toarray(), atol=1e-5)
    np.testing.assert_allclose(found["layers/magic"], before.layers["magic"], rtol=1e-5)


def test_components_are_trained_through_the_kernel(before):
    after = dbx.optimize(before, Ordering("hours"), train=["pca"], copy=True, **QUICK)
    history = after.uns["optimize"]["history"]["loss"]
    assert history[-1] < history[0]
    if after.uns["optimize"]["kept"].all():
        assert (after.obsp["magic_connectivities"] != before.obsp["magic_connectivities"]).nnz > 0


def test_trained_steps_last_when_components_are_trained_after_them(smoother):
    quick = QUICK | {"learning_rate": 0.05}
    twice = dbx.optimize(smoother, spread, train=["pca"], steps=["pca", "magic_kernel", "magic"], copy=True, **quick)
    assert twice.uns["optimize"]["kept"].all()
    np.testing.assert_array_equal(twice.uns["magic"]["powers"], smoother.uns["magic"]["powers"])
    np.testing.assert_allclose(twice.layers["magic"], mixed(twice, twice.uns["magic"]["powers"]), rtol=1e-4)
    assert (twice.obsp["magic_connectivities"] != smoother.obsp["magic_connectivities"]).nnz > 0


def test_programs_from_before_steps_were_trainable(before):
    """Their state has no weights of powers: all of it is at t."""
    from dbx.ops.diffusion.magic import Magic

    operator = Magic(t=2, n_steps=2)
    assert "shares" not in state_arrays(operator)
    np.testing.assert_array_equal(operator.powers, [0, 0, 1])
