import anndata as ad
import mudata as md
import numpy as np
import pytest

import dbx
from dbx.ops.counts.vae import VAENormalize
from dbx.pp.vae_normalize import vae_normalize
from dbx.program.record.registry import load

QUICK = {"n_hidden": 8, "n_latent": 3, "max_epochs": 2}


@pytest.fixture(scope="module")
def fitted():
    adata = dbx.datasets.simulate(120, 40, 3, 2, seed=0, library_size=200)
    vae_normalize(adata, batch_key="batch", likelihood="nb", **QUICK)
    return adata


def test_writes_what_it_says(fitted):
    assert fitted.obsm["X_vae"].shape == (120, 3)
    assert fitted.obsm["X_vae"].dtype == fitted.layers["vae_normalized"].dtype == np.float32
    np.testing.assert_allclose(fitted.layers["vae_normalized"].sum(axis=1), 1e4, rtol=1e-4)
    history = fitted.uns["vae_normalize"]["history"]
    assert {name: x.shape for name, x in history.items()} == dict.fromkeys(
        ("elbo", "validation_elbo", "loss", "reconstruction", "kl"), (2,)
    )
    assert fitted.uns["vae_normalize"]["params"] == {"likelihood": "nb", "dispersion": "gene", "batch_key": "batch"}


def test_names_copy_and_layers(fitted):
    raw = ad.AnnData(np.ones(fitted.shape), obs=fitted.obs, var=fitted.var, layers={"counts": fitted.X})
    settings = {"batch_key": "batch", "likelihood": "nb", "layer": "counts", "key_added": "X_scvi", **QUICK}
    again = vae_normalize(raw, normalized_layer=None, copy=True, **settings)
    assert "X_scvi" not in raw.obsm
    assert "vae_normalized" not in again.layers
    assert again.uns["X_scvi"]["params"]["layer"] == "counts"
    np.testing.assert_array_equal(again.obsm["X_scvi"], fitted.obsm["X_vae"])


def test_every_setting_reaches_the_operator(fitted):
    config = {
        "likelihood": "poisson",
        "n_latent": 2,
        "n_hidden": 4,
        "n_layers": 2,
        "dispersion": "gene-batch",
        "encode_batch": True,
        "max_epochs": 1,
        "validation": 0.2,
        "patience": 3,
        "batch_size": 60,
        "learning_rate": 0.02,
        "target_sum": 500.0,
        "transform_batch": "batch_2",
        "adapt_epochs": 7,
    }
    again = vae_normalize(fitted, batch_key="batch", normalized_layer="smooth", copy=True, **config)
    recorded = load(again).steps[-1].config
    assert recorded == {**config, "decode": True, "n_genes": 40, "n_batches": 2}
    np.testing.assert_allclose(again.layers["smooth"].sum(axis=1), 500, rtol=1e-4)


def test_seeds(fitted):
    def latent(**seed):
        return vae_normalize(fitted, copy=True, batch_key="batch", likelihood="nb", **QUICK, **seed).obsm["X_vae"]

    np.testing.assert_array_equal(latent(rng=3), latent(random_state=3))
    assert np.abs(latent(rng=3) - fitted.obsm["X_vae"]).max() > 1e-3


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_program_runs_again_from_a_file(fitted, tmp_path, kind):
    getattr(fitted, f"write_{kind}")(tmp_path / f"a.{kind}")
    back = getattr(ad, f"read_{kind}")(tmp_path / f"a.{kind}")
    kept = {"X_vae": back.obsm.pop("X_vae"), "vae_normalized": back.layers.pop("vae_normalized")}
    dbx.rerun(back)
    np.testing.assert_array_equal(back.obsm["X_vae"], kept["X_vae"])
    np.testing.assert_array_equal(back.layers["vae_normalized"], kept["vae_normalized"])


def test_query_of_another_batch_is_mapped(fitted):
    query = dbx.datasets.simulate(30, 40, 3, 2, seed=1, library_size=200)
    known = query.copy()
    dbx.rerun(known, reference=fitted)
    query.obs["batch"] = "batch_9"
    with pytest.warns(UserWarning, match=r"takes 'batch_9' of obs\['batch'\] as new"):
        dbx.rerun(query, reference=fitted)
    # the encoder does not read the batch, the decoder does
    np.testing.assert_array_equal(query.obsm["X_vae"], known.obsm["X_vae"])
    assert np.abs(query.layers["vae_normalized"] - known.layers["vae_normalized"]).max() > 1
    np.testing.assert_allclose(query.layers["vae_normalized"].sum(axis=1), 1e4, rtol=1e-4)


def test_covariates_and_going_on(fitted):
    adata = fitted.copy()
    adata.obs["depth"] = np.log(np.asarray(adata.X.sum(axis=1)).ravel())
    given = {"categorical_covariate_keys": ["group"], "continuous_covariate_keys": "depth"}  # one name is a list of one
    vae_normalize(adata, batch_key="batch", likelihood="nb", validation=0, **given, **QUICK)
    assert np.abs(adata.layers["vae_normalized"] - fitted.layers["vae_normalized"]).max() > 1e-2
    stored = adata.layers["vae_normalized"].copy()
    dbx.rerun(adata)
    np.testing.assert_array_equal(adata.layers["vae_normalized"], stored)
    dbx.rerun(adata, refit="continue")
    assert len(adata.uns["vae_normalize"]["history"]["loss"]) == 4
    assert np.abs(adata.layers["vae_normalized"] - stored).max() > 1e-3
    stored = adata.layers["vae_normalized"].copy()
    dbx.rerun(adata)  # what went on is what is recorded
    np.testing.assert_array_equal(adata.layers["vae_normalized"], stored)
    with pytest.raises(ValueError, match='refit must be True, False or "continue"'):
        dbx.rerun(adata, refit="anew")


def test_backed_data_are_refused_before_training(fitted, tmp_path, monkeypatch):
    ad.AnnData(fitted.X, obs=fitted.obs[["batch"]], var=fitted.var).write_h5ad(tmp_path / "cells.h5ad")
    adata = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    vae_normalize(adata, batch_key="batch", likelihood="nb", normalized_layer=None, **QUICK)
    np.testing.assert_allclose(adata.obsm["X_vae"], fitted.obsm["X_vae"], atol=1e-6)
    monkeypatch.setattr(VAENormalize, "fit", None)
    with pytest.raises(NotImplementedError, match=r"adata.layers\['vae_normalized'\] is on disk .* adata.to_memory"):
        vae_normalize(adata, batch_key="batch", **QUICK)


def test_modality(fitted):
    rna = ad.AnnData(fitted.X, obs=fitted.obs[["batch"]], var=fitted.var)
    mdata = md.MuData({"rna": rna})
    vae_normalize(mdata, batch_key="batch", likelihood="nb", mod="rna", **QUICK)
    np.testing.assert_array_equal(mdata["rna"].obsm["X_vae"], fitted.obsm["X_vae"])


def test_wrong_input_leaves_the_data_alone(fitted):
    def refused(change, match, **settings):
        adata = ad.AnnData(fitted.X.copy(), obs=fitted.obs[["batch"]].copy(), var=fitted.var)
        change(adata)
        with pytest.raises((ValueError, KeyError), match=match):
            vae_normalize(adata, **{"batch_key": "batch", **QUICK, **settings})
        assert not adata.obsm
        assert not adata.layers
        assert not adata.uns

    def log(adata):
        adata.X.data = np.log1p(adata.X.data)

    def empty(adata):
        adata.X = adata.X.toarray()
        adata.X[4] = 0

    def one_batch(adata):
        adata.obs["batch"] = "a"

    def negative(adata):
        adata.X.data[3] = -1

    refused(log, "vae_normalize needs raw counts, but adata.X has fractional values")
    refused(negative, "vae_normalize needs raw counts, but adata.X has negative values")
    refused(empty, r"1 cells have no counts in these genes \(the first is row 4\)")
    refused(one_batch, "All cells are from one batch")
    refused(lambda adata: None, "adata.obs\\['nowhere'\\] is missing", batch_key="nowhere")
    refused(lambda adata: None, "likelihood must be one of .*; got 'zip'", likelihood="zip")
    refused(lambda adata: None, "batch_size must be at least 2; got 1", batch_size=1)
    refused(lambda adata: None, "max_epochs must be at least 1; got 0", max_epochs=0)
