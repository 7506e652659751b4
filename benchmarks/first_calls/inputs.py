"""The cells of every step, made once."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path


def prepare(folder: Path, n_cells: int, n_genes: int) -> None:
    """Simulated cells as counts, and as log values with all that scanpy's steps need; some mapped by dbx."""
    import numpy as np
    import scanpy as sc

    import dbx

    adata = dbx.datasets.simulate(n_cells, n_genes, 8, 3)
    sc.pp.filter_genes(adata, min_counts=1)  # residuals of silent genes are NaN in scanpy
    rng = np.random.default_rng(0)
    sample = rng.integers(0, 12, n_cells)
    adata.obs["sample"] = [f"s{i}" for i in sample]
    adata.obs["condition"] = np.where(sample < 6, "control", "treated")
    adata.obs["known"] = np.where(rng.random(n_cells) < 0.5, adata.obs["group"].astype(str), "Unknown")
    sc.pp.calculate_qc_metrics(adata, inplace=True)
    adata.write_h5ad(folder / "counts.h5ad")
    new = adata[: n_cells // 3].copy()
    new.obs_names = [f"new{i}" for i in range(new.n_obs)]
    new.write_h5ad(folder / "new.h5ad")
    for package, cells in ((sc, adata), (dbx, mapped := adata.copy())):
        package.pp.normalize_total(cells, target_sum=1e4)
        package.pp.log1p(cells)
        package.pp.highly_variable_genes(cells, n_top_genes=1000)
        package.pp.pca(cells, n_comps=50)
        package.pp.neighbors(cells)
        package.tl.umap(cells)
    adata.write_h5ad(folder / "log.h5ad")
    mapped.write_h5ad(folder / "mapped.h5ad")
    dbx.rerun(new, mapped)
    new.write_h5ad(folder / "placed.h5ad")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    prepare(Path(sys.argv[1]), *map(int, sys.argv[2:]))
