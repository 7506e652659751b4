"""Notebooks as people write them, with dbx for scanpy, leave a program that maps new raw cells."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from sklearn.metrics import adjusted_rand_score

import dbx

HERE = Path(__file__).parent


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a script in a folder with the data that it reads; returns its variables."""
    monkeypatch.chdir(tmp_path)

    def one(notebook: str, **files) -> dict:
        for name, data in files.items():
            data.write_h5ad(f"{name}.h5ad")
        path = HERE / f"{notebook}.py"
        names: dict = {}
        exec(compile(path.read_text(), str(path), "exec"), names)
        return names

    return one


def halves(adata, share=0.7, seed=0):
    """A reference and held-out cells, both raw."""
    chosen = np.random.default_rng(seed).random(adata.n_obs) < share
    return adata[chosen].copy(), adata[~chosen].copy()


def agreement(query, joint, column):
    """ARI of labels that cells got by a program and in the analysis of all cells."""
    cells = query.obs_names.intersection(joint.obs_names)
    assert len(cells) > 0.8 * query.n_obs
    return adjusted_rand_score(query.obs.loc[cells, column].astype(str), joint.obs.loc[cells, column].astype(str))


def test_preprocessing_and_clustering_2017(run):
    cells = dbx.datasets.mixology()
    cells = cells[cells.obs["batch"] == "CEL-seq2"].copy()
    reference, query = halves(cells)
    analysed, joint = run("clustering_2017", cells=reference)["adata"], run("clustering_2017", cells=cells)["adata"]
    assert set(dbx.steps(analysed)["status"]) == {"ok"}
    dbx.rerun(query, analysed)
    assert agreement(query, joint, "leiden") > 0.9
    right = query.obs["dbx_passed"].to_numpy()
    assert set(query.obs_names[right]) >= set(query.obs_names.intersection(joint.obs_names))


def test_preprocessing_and_clustering_2024(run):
    cells = dbx.datasets.mixology()
    cells.obs["sample"] = cells.obs["batch"]
    reference, query = halves(cells)
    analysed, joint = run("clustering_2024", cells=reference)["adata"], run("clustering_2024", cells=cells)["adata"]
    assert set(dbx.steps(analysed)["status"]) == {"ok"}
    dbx.rerun(query, analysed)
    for column in ("leiden_res_0.02", "leiden_res_0.50"):
        own = agreement(analysed, joint, column)  # finer clusters are found otherwise in other cells
        assert agreement(query, joint, column) > min(own, 0.95) - 0.1


def pbmc() -> ad.AnnData:
    """700 blood cells: counts, of which the logarithms that scanpy ships were made (each cell's least value is 1)."""
    shipped = sc.datasets.pbmc68k_reduced()
    normalised = shipped.raw.to_adata()
    scaled = np.expm1(normalised.X.toarray())
    least = np.where(scaled > 1e-6, scaled, np.inf).min(axis=1, keepdims=True)
    counts = np.round(scaled / least).astype(np.float32)
    obs = pd.DataFrame({"cell_type": shipped.obs["bulk_labels"]})
    return ad.AnnData(counts, obs=obs, var=normalised.var[[]])


@pytest.mark.filterwarnings("ignore:adata.X does not hold raw counts but what step 'log1p' writes")
def test_integrating_with_ingest(run):
    reference, query = halves(pbmc())
    truth = query.obs.pop("cell_type").astype(str)
    made = run("ingest", reference=reference, cells=query)
    mapped, analysed = made["adata"], made["adata_ref"]
    assert (mapped.obs["cell_type"].astype(str) == truth).mean() > 0.75  # scanpy's own ingest: 0.80 of such cells
    raw = query.copy()
    dbx.rerun(raw, analysed)
    np.testing.assert_allclose(raw.obsm["X_pca"], mapped.obsm["X_pca"], atol=1e-3)


def test_trajectories_with_paga(run):
    cells = ad.read_h5ad(HERE / "paul15.h5ad")
    reference, query = halves(cells)
    analysed, joint = run("paga", cells=reference)["adata"], run("paga", cells=cells)["adata"]
    dbx.rerun(query, analysed)
    # clusters along a continuum have no firm borders, also for the reference's own cells
    own = agreement(analysed, joint, "leiden")
    assert agreement(query, joint, "leiden") > own - 0.15
