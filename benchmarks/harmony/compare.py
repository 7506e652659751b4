"""Harmony and LISI beside harmonypy: agreement, mixing and time, over several seeds of each.

    python -m benchmarks.harmony.compare                      # mixology and simulated cells
    python -m benchmarks.harmony.compare some.h5ad:donor      # any file with obsm["X_pca"]: its path and batch column

Agreement is the smallest correlation over components, to the first seed of harmonypy; so harmonypy's own further seeds
are the yardstick.
"""

from __future__ import annotations

import argparse
import time
import warnings
from importlib.metadata import version

import numpy as np
import pandas as pd
from anndata import AnnData, read_h5ad


def mixology() -> tuple[AnnData, list[str]]:
    """Two protocols of three cell lines, 10 components of 2,000 genes chosen in each batch."""
    import scanpy as sc

    from dbx.datasets import mixology

    adata = mixology()
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=2000, batch_key="batch")
    sc.pp.pca(adata, n_comps=10)
    return adata, ["batch", "cell_line"]


def simulated(n_cells: int) -> tuple[AnnData, list[str]]:
    """A mixture of 12 groups in 50 dimensions, in four batches that are shifted as a whole and group by group."""
    rng = np.random.default_rng(0)
    group, batch = rng.integers(12, size=n_cells), rng.choice(4, n_cells, p=[0.4, 0.3, 0.2, 0.1])
    spread = np.linspace(1.2, 0.5, 50)
    centres, shift = (
        rng.normal(size=(12, 50)) * 2 * spread,
        rng.normal(size=(4, 50)) + rng.normal(size=(12, 4, 50)) * 0.5,
    )
    x = centres[group] + shift[group, batch] + rng.normal(size=(n_cells, 50)) * spread
    obs = pd.DataFrame({"batch": batch.astype(str), "group": group.astype(str)}, index=np.arange(n_cells).astype(str))
    return AnnData(obs=obs.astype("category"), obsm={"X_pca": x.astype(np.float32)}), ["batch", "group"]


def timed(run, *arguments):
    """(result, seconds)."""
    start = time.perf_counter()
    result = run(*arguments)
    return result, time.perf_counter() - start


def harmonypy(adata: AnnData, key: str, lamb: float | None, seed: int) -> np.ndarray:
    from harmonypy import run_harmony

    return run_harmony(adata.obsm["X_pca"], adata.obs, key, lamb=lamb, verbose=False, random_state=seed).Z_corr


def ours(adata: AnnData, key: str, lamb: float | None, seed: int) -> np.ndarray:
    import dbx

    dbx.tl.harmony(adata, key, lamb=lamb, random_state=seed)
    return adata.obsm["X_pca_harmony"]


def mixing(adata: AnnData, z: np.ndarray, keys: list[str]) -> np.ndarray:
    """Median LISI of each key."""
    import dbx

    adata.obsm["measured"] = z
    return dbx.tl.lisi(adata, keys, use_rep="measured", inplace=False).median().to_numpy()


def compare(name: str, adata: AnnData, keys: list[str], n_seeds: int) -> None:
    """Print a row for each tool and ridge penalty."""
    before = np.round(mixing(adata, adata.obsm["X_pca"], keys), 3)
    n_columns = adata.obsm["X_pca"].shape[1]
    print(f"\n{name}: {adata.n_obs} cells, {n_columns} components; LISI of {', '.join(keys)} before: {before}\n")
    print(
        "| lambda | tool | median LISI, mean over seeds | sd | smallest correlation | first call, s | later calls, s |"
    )
    print("|---|---|---|---|---|---|---|")
    for lamb in (1.0, None):
        first = None
        calls = {tool.__name__: [] for tool in (harmonypy, ours)}
        for seed in range(n_seeds):
            for tool in (harmonypy, ours):
                z, seconds = timed(tool, adata, keys[0], lamb, seed)
                first = z if first is None else first
                least = min(np.corrcoef(z[:, i], first[:, i])[0, 1] for i in range(z.shape[1]))
                calls[tool.__name__].append((mixing(adata, z, keys), least, seconds))
        for tool, rows in calls.items():
            scores, least, seconds = (np.array(part) for part in zip(*rows, strict=True))
            others = least[1:] if tool == "harmonypy" else least
            print(
                f"| {lamb or 'estimated'} | {'dbx' if tool == 'ours' else tool} | {np.round(scores.mean(axis=0), 3)} "
                f"| {np.round(scores.std(axis=0), 3)} | {others.min():.4f} to {others.max():.4f} "
                f"| {seconds[0]:.2f} | {np.median(seconds[1:]):.2f} |"
            )


def compare_lisi(adata: AnnData, key: str) -> None:
    """Print the largest difference to harmonypy's LISI, and both times."""
    from harmonypy import compute_lisi

    import dbx

    rows = adata[:5000].copy()
    theirs, slow = timed(compute_lisi, rows.obsm["X_pca"].astype(float), rows.obs, [key], 30)
    found, fast = timed(lambda: dbx.tl.lisi(rows, key, inplace=False))
    apart = np.abs(found.to_numpy() / theirs - 1).max()
    times = f"harmonypy {slow:.2f} s, dbx {fast:.2f} s"
    print(f"\nLISI of {rows.n_obs} cells: largest relative difference {apart:.1e}; {times}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE:COLUMN", help="h5ad with obsm['X_pca'], and its batch column")
    parser.add_argument("--cells", type=int, default=20_000, help="simulated cells")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print(*(f"{package} {version(package)}" for package in ("dbx-bio", "harmonypy", "jax", "numpy")), sep=", ")
    for file in arguments.files:
        path, _, column = file.rpartition(":")
        compare(path.rpartition("/")[2], read_h5ad(path), [column], arguments.seeds)
    compare("mixology", *mixology(), arguments.seeds)
    adata, keys = simulated(arguments.cells)
    compare("simulated", adata, keys, arguments.seeds)
    compare_lisi(adata, keys[0])


if __name__ == "__main__":
    main()
