import anndata as ad
import mudata as md
import numpy as np
import pytest

import dbx
from dbx.pp import denoise
from dbx.program.record.registry import load

QUICK = {"n_units": 8, "n_latents": 2, "max_epochs": 2}


@pytest.fixture(scope="module")
def fitted():
    adata = dbx.datasets.simulate(120, 40, 3, 1, seed=0, library_size=200)
    denoise(adata, **QUICK)
    return adata


def test_writes_what_it_says(fitted):
    assert fitted.layers["denoised"].dtype == np.float32
    np.testing.assert_allclose(
        fitted.layers["denoised"].sum(axis=1), np.asarray(fitted.X.sum(axis=1)).ravel(), rtol=1e-4
    )
    assert (fitted.layers["denoised"] > 0).all()
    history = fitted.uns["denoise"]["history"]
    assert {name: x.shape for name, x in history.items()} == {"loss": (2,), "validation_loss": (2,)}


def test_names_copy_layers_and_seeds(fitted):
    raw = ad.AnnData(np.ones(fitted.shape), obs=fitted.obs, var=fitted.var, layers={"counts": fitted.X})
    again = denoise(raw, layer="counts", key_added="smooth", copy=True, rng=0, **QUICK)
    assert "smooth" not in raw.layers
    np.testing.assert_array_equal(again.layers["smooth"], fitted.layers["denoised"])
    assert "history" in again.uns["smooth"]
    other = denoise(fitted, copy=True, random_state=1, **QUICK)
    assert np.abs(other.layers["denoised"] - fitted.layers["denoised"]).max() > 1e-3


def test_every_setting_reaches_the_operator(fitted):
    config = {
        "n_units": 12,
        "n_latents": 3,
        "n_blocks": 1,
        "target_sum": 500.0,
        "max_epochs": 1,
        "patience": 3,
        "validation": 0.2,
        "batch_size": 60,
        "learning_rate": 0.01,
    }
    again = denoise(fitted, copy=True, **config)
    assert load(again).steps[-1].config == {**config, "n_genes": 40}
    np.testing.assert_allclose(again.layers["denoised"].sum(axis=1), 500, rtol=1e-4)


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_program_runs_again_from_a_file_and_on_new_cells(fitted, tmp_path, kind):
    getattr(fitted, f"write_{kind}")(tmp_path / f"a.{kind}")
    back = getattr(ad, f"read_{kind}")(tmp_path / f"a.{kind}")
    kept = back.layers.pop("denoised")
    dbx.rerun(back)
    np.testing.assert_array_equal(back.layers["denoised"], kept)
    query = ad.AnnData(fitted.X[:20], obs=fitted.obs[:20], var=fitted.var)
    dbx.rerun(query, reference=fitted)
    np.testing.assert_allclose(query.layers["denoised"], kept[:20], rtol=1e-4)


def test_what_cannot_go_on_says_that_it_starts_anew(fitted):
    with pytest.warns(UserWarning, match="will start again: denoise"):
        dbx.rerun(fitted.copy(), refit="continue")


def test_modality(fitted):
    mdata = md.MuData({"rna": ad.AnnData(fitted.X, obs=fitted.obs, var=fitted.var)})
    denoise(mdata, mod="rna", **QUICK)
    np.testing.assert_array_equal(mdata["rna"].layers["denoised"], fitted.layers["denoised"])


def test_wrong_input_leaves_the_data_alone(fitted):
    def refused(change, match, **settings):
        adata = ad.AnnData(fitted.X.copy(), obs=fitted.obs.copy(), var=fitted.var)
        change(adata)
        with pytest.raises(ValueError, match=match):
            denoise(adata, **{**QUICK, **settings})
        assert not adata.layers
        assert not adata.uns

    def log(adata):
        adata.X.data = np.log1p(adata.X.data)

    def negative(adata):
        adata.X.data[3] = -1

    def empty(adata):
        adata.X = adata.X.toarray()
        adata.X[4] = 0

    refused(log, "denoise needs raw counts, but adata.X has fractional values")
    refused(negative, "denoise needs raw counts, but adata.X has negative values")
    refused(empty, r"1 cells have no counts in these genes \(the first is row 4\)")
    refused(lambda adata: None, "n_latents must be at least .*; got 0", n_latents=0)
