"""``tl.harmony`` and ``pp.harmony_integrate`` on two protocols of three known cell lines, beside harmonypy."""

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from harmonypy import run_harmony
from mudata import MuData

from dbx.datasets import mixology
from dbx.pp.harmony_integrate import harmony_integrate
from dbx.program import SlotError
from dbx.program.record.registry import load
from dbx.tl.harmony import harmony
from dbx.tl.lisi import lisi


@pytest.fixture(scope="module")
def lines():
    """Mixology: 10 principal components of 2,000 genes chosen in each batch."""
    adata = mixology()
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=2000, batch_key="batch")
    sc.pp.pca(adata, n_comps=10)
    return AnnData(obs=adata.obs[["batch", "cell_line"]], obsm={"X_pca": adata.obsm["X_pca"]})


def mixing(adata, rep):
    """Medians of LISI over cells: (batches mixed, cell lines apart)."""
    return lisi(adata, ["batch", "cell_line"], use_rep=rep, inplace=False).median().to_numpy()


@pytest.mark.parametrize("lamb", [1.0, None])
def test_mixes_protocols_as_harmonypy_does(lines, lamb):
    adata = lines.copy()
    harmony(adata, "batch", lamb=lamb)
    theirs = [
        run_harmony(adata.obsm["X_pca"], adata.obs, "batch", lamb=lamb, verbose=False, random_state=seed).Z_corr
        for seed in (0, 1)
    ]
    adata.obsm["theirs"] = theirs[0]
    before, ours, expected = (mixing(adata, rep) for rep in ("X_pca", "X_pca_harmony", "theirs"))
    assert before[0] < 1.1
    assert ours[0] > 1.8
    assert ours == pytest.approx(expected, rel=0.02)
    assert ours[1] < 1.01

    def agreement(a, b):
        return min(np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(10))

    # two seeds of harmonypy itself come to .94 - .997 here: 499 cells, 17 clusters
    assert agreement(adata.obsm["X_pca_harmony"], theirs[0]) > min(0.99, agreement(*theirs))


def test_writes_one_entry_and_records_one_step(lines):
    adata = lines.copy()
    assert harmony(adata, "batch", adjusted_basis="X_two", max_iter=2) is None
    assert set(adata.obsm) == {"X_pca", "X_two"}
    assert adata.obsm["X_two"].dtype == np.float32
    assert adata.obsm["X_two"].flags.writeable
    step = load(adata)["harmony"]
    assert step.reads["batch"].slots == ("obs/batch",)
    assert step.writes == {"z": "obsm/X_two"}
    copy = harmony(lines, "batch", adjusted_basis="X_two", max_iter=2, copy=True)
    np.testing.assert_array_equal(copy.obsm["X_two"], adata.obsm["X_two"])
    assert "X_two" not in lines.obsm
    seeded = harmony(lines, "batch", max_iter=2, rng=7, copy=True).obsm["X_pca_harmony"]
    np.testing.assert_array_equal(
        seeded, harmony(lines, "batch", max_iter=2, random_state=7, copy=True).obsm["X_pca_harmony"]
    )
    assert (seeded != adata.obsm["X_two"]).any()


def test_several_keys_take_their_settings_with_them(lines):
    adata = lines.copy()
    adata.obs["a_plate"] = pd.Categorical(np.arange(adata.n_obs) % 3)
    one, two = adata.copy(), adata.copy()
    harmony(one, ["batch", "a_plate"], theta=[3, 0.5], max_iter=2)
    harmony(two, ["a_plate", "batch"], theta=[0.5, 3], max_iter=2)
    np.testing.assert_array_equal(one.obsm["X_pca_harmony"], two.obsm["X_pca_harmony"])
    harmony(two, ["a_plate", "batch"], theta=[3, 0.5], max_iter=2)
    assert np.abs(one.obsm["X_pca_harmony"] - two.obsm["X_pca_harmony"]).max() > 1e-3


def test_scanpys_name(lines):
    adata = lines.copy()
    settings = {"max_iter": 2, "max_iter_cluster": 4, "tol": 1e-4, "tol_cluster": 1e-5}
    theirs = {"max_iter_harmony": 2, "max_iter_clustering": 4}
    harmony_integrate(adata, "batch", **theirs)
    assert adata.obsm["X_pca_harmony"].dtype == np.float64
    expected = harmony(lines, "batch", lamb=None, dtype="float64", copy=True, **settings)
    np.testing.assert_array_equal(adata.obsm["X_pca_harmony"], expected.obsm["X_pca_harmony"])
    harmony_integrate(adata, "batch", flavor="harmony1", ridge_lambda=3.0, dtype="float32", **theirs)
    expected = harmony(lines, "batch", lamb=3.0, flavor="harmony1", prune=None, copy=True, **settings)
    np.testing.assert_array_equal(adata.obsm["X_pca_harmony"], expected.obsm["X_pca_harmony"])
    with pytest.raises(ValueError, match="correction_method"):
        harmony_integrate(adata, "batch", correction_method="slow")


def test_a_modality(lines):
    mdata = MuData({"rna": lines.copy()})
    harmony(mdata, "batch", mod="rna", max_iter=2)
    expected = harmony(lines, "batch", max_iter=2, copy=True)
    np.testing.assert_array_equal(mdata["rna"].obsm["X_pca_harmony"], expected.obsm["X_pca_harmony"])


@pytest.mark.parametrize(
    ("change", "config", "error", "words"),
    [
        (None, {"key": "lane"}, SlotError, "'lane'"),
        (None, {"key": "batch", "basis": "X_scvi"}, SlotError, "X_scvi"),
        ("one batch", {"key": "batch"}, ValueError, "there is no batch to correct for"),
        ("gap", {"key": "batch"}, ValueError, "batch.*missing"),
        ("nan", {"key": "batch"}, ValueError, "NaN"),
        (None, {"key": []}, ValueError, "must name one column"),
        (None, {"key": "batch", "lamb": 0}, ValueError, "lamb=0.0 must be above 0"),
    ],
)
def test_wrong_input_leaves_the_data_as_they_were(lines, change, config, error, words):
    adata = lines.copy()
    if change == "one batch":
        adata = adata[adata.obs["batch"] == adata.obs["batch"].iloc[0]].copy()
    elif change == "gap":
        adata.obs["batch"] = adata.obs["batch"].astype(object).where(np.arange(adata.n_obs) > 2)
    elif change == "nan":
        adata.obsm["X_pca"] = np.where(np.arange(10) == 3, np.nan, adata.obsm["X_pca"])
    with pytest.raises(error, match=words):
        harmony(adata, **config)
    assert set(adata.obsm) == {"X_pca"}
    assert not adata.uns
