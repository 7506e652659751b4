import anndata as ad
import mudata as md
import numpy as np
import pytest

import dbx
from dbx.program.record.registry import load
from dbx.tl import mmd, wgan

QUICK = {"batch_key": "batch", "n_hidden": 8, "n_latent": 3, "max_epochs": 2}


@pytest.fixture(scope="module")
def cells():
    return dbx.datasets.simulate(120, 40, 3, 2, seed=0, library_size=200)


@pytest.fixture(scope="module", params=[mmd, wgan], ids=["mmd", "wgan"])
def made(request, cells):
    adata = cells.copy()
    request.param(adata, **QUICK)
    return request.param, request.param.__name__, adata


def test_writes_what_it_says(made):
    _, name, adata = made
    z = adata.obsm[f"X_{name}"]
    assert z.shape == (120, 3)
    assert z.dtype == np.float32
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(z.var(axis=0).mean(), 1, rtol=1e-3)
    more = {"mmd": {"mmd"}, "wgan": {"distance", "critic_loss"}}[name]
    history = adata.uns[name]["history"]
    assert {key: x.shape for key, x in history.items()} == dict.fromkeys({"loss", "reconstruction"} | more, (2,))
    assert adata.uns[name]["params"]["batch_key"] == "batch"


def test_names_copy_layers_seeds_and_settings(made):
    function, name, adata = made
    raw = ad.AnnData(np.ones(adata.shape), obs=adata.obs, var=adata.var, layers={"counts": adata.X})
    again = function(raw, layer="counts", key_added="Z", copy=True, rng=0, **QUICK)
    assert "Z" not in raw.obsm
    np.testing.assert_array_equal(again.obsm["Z"], adata.obsm[f"X_{name}"])
    assert again.uns["Z"]["params"]["layer"] == "counts"
    config = {
        "likelihood": "poisson",
        "n_latent": 2,
        "n_hidden": 4,
        "n_layers": 2,
        "strength": 7.0,
        "weighted": False,
        "max_epochs": 1,
        "batch_size": 60,
        "learning_rate": 0.02,
    } | ({"critic_steps": 2} if name == "wgan" else {})
    again = function(adata, batch_key="batch", copy=True, random_state=3, **config)
    assert load(again).steps[-1].config == {**config, "n_genes": 40, "n_batches": 2}


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_program_runs_again_from_a_file(made, tmp_path, kind):
    _, name, adata = made
    getattr(adata, f"write_{kind}")(tmp_path / f"a.{kind}")
    back = getattr(ad, f"read_{kind}")(tmp_path / f"a.{kind}")
    kept = back.obsm.pop(f"X_{name}")
    dbx.rerun(back)
    np.testing.assert_array_equal(back.obsm[f"X_{name}"], kept)


def test_new_cells_need_no_batch(made):
    _, name, adata = made
    query = dbx.datasets.simulate(30, 40, 3, 2, seed=1, library_size=200)
    known, other = query.copy(), query.copy()
    dbx.rerun(known, reference=adata)
    other.obs["batch"] = "batch_9"
    dbx.rerun(other, reference=adata)
    del query.obs["batch"]
    dbx.rerun(query, reference=adata)
    np.testing.assert_array_equal(query.obsm[f"X_{name}"], known.obsm[f"X_{name}"])
    np.testing.assert_array_equal(other.obsm[f"X_{name}"], known.obsm[f"X_{name}"])


def test_modality(made):
    function, name, adata = made
    mdata = md.MuData({"rna": ad.AnnData(adata.X, obs=adata.obs[["batch"]], var=adata.var)})
    function(mdata, mod="rna", **QUICK)
    np.testing.assert_array_equal(mdata["rna"].obsm[f"X_{name}"], adata.obsm[f"X_{name}"])


def test_wrong_input_leaves_the_data_alone(made):
    function, _, given = made

    def refused(change, match, **settings):
        adata = ad.AnnData(given.X.copy(), obs=given.obs[["batch"]].copy(), var=given.var)
        change(adata)
        with pytest.raises((ValueError, KeyError), match=match):
            function(adata, **{**QUICK, **settings})
        assert not adata.obsm
        assert not adata.uns

    def log(adata):
        adata.X.data = np.log1p(adata.X.data)

    def empty(adata):
        adata.X = adata.X.toarray()
        adata.X[4] = 0

    def one_batch(adata):
        adata.obs["batch"] = "a"

    def lacking(adata):
        adata.obs["batch"] = adata.obs["batch"].astype(object).where(np.arange(120) != 7)

    refused(log, "needs raw counts, but adata.X has fractional values")
    refused(empty, r"1 cells have no counts in these genes \(the first is row 4\)")
    refused(one_batch, "All cells are from one batch")
    refused(lacking, "batch")
    refused(lambda adata: None, "adata.obs\\['nowhere'\\] is missing", batch_key="nowhere")
    refused(lambda adata: None, "likelihood must be one of .*; got 'zip'", likelihood="zip")
