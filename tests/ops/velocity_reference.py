"""100 cells of the dentate gyrus with the results of scVelo 0.3.4, and the same cells as a fresh AnnData."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import anndata as ad
import numpy as np
from scipy import sparse

import dbx

FILE = Path(__file__).parents[1] / "reference" / "velocity" / "dentategyrus.npz"
N_CELLS = 100


@cache
def stored() -> dict[str, np.ndarray]:
    return dict(np.load(FILE))


def edges(name: str) -> sparse.csr_matrix:
    """A stored graph of cells."""
    rows, columns = stored()[f"{name}_ends"]
    return sparse.csr_matrix((stored()[f"{name}_values"], (rows, columns)), shape=(N_CELLS, N_CELLS))


def layer(name: str) -> sparse.csr_matrix:
    """Normalised counts."""
    parts = (stored()[f"{name}_{part}"] for part in ("data", "indices", "indptr"))
    return sparse.csr_matrix(tuple(parts), shape=stored()["Ms"].shape)


@cache
def _with_neighbours() -> ad.AnnData:
    adata = ad.AnnData(layer("spliced"))
    adata.obs_names = [f"cell{i}" for i in range(N_CELLS)]
    adata.var_names = [f"gene{i}" for i in range(adata.n_vars)]
    adata.layers["spliced"], adata.layers["unspliced"] = layer("spliced"), layer("unspliced")
    adata.obsm["X_pca"], adata.obsm["X_umap"] = stored()["X_pca"], stored()["X_umap"]
    dbx.pp.neighbors(adata, n_neighbors=15, use_rep="X_pca")
    return adata


def cells() -> ad.AnnData:
    """With neighbours, and the stored moments: ranks of nearly equal values depend on their last bits."""
    adata = _with_neighbours().copy()
    adata.layers["Ms"], adata.layers["Mu"] = stored()["Ms"], stored()["Mu"]
    return adata
