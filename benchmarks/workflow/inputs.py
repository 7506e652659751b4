"""The inputs of every step, each made with scanpy from the stage before and written once for both tools."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

STAGES = ("counts", "normalized", "log", "pca", "neighbors")


def prepare(folder: Path, n_cells: int, n_genes: int, n_groups: int, n_batches: int) -> None:
    """Simulate counts and take them through scanpy, a file for each stage."""
    import scanpy as sc

    from dbx.datasets import simulate

    adata = simulate(n_cells, n_genes, n_groups, n_batches)
    steps = {
        "counts": lambda adata: None,
        "normalized": lambda adata: sc.pp.normalize_total(adata, target_sum=1e4),
        "log": sc.pp.log1p,
        "pca": lambda adata: sc.pp.pca(adata, n_comps=50),
        "neighbors": lambda adata: sc.pp.neighbors(adata, use_rep="X_pca"),
    }
    for stage in STAGES:
        steps[stage](adata)
        adata.write_h5ad(folder / f"{stage}.h5ad")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    prepare(Path(sys.argv[1]), *map(int, sys.argv[2:]))
