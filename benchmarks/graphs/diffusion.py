"""``dbx.tl.diffmap`` with ``dbx.tl.dpt`` beside scanpy's, and the way from counts to fates and PHATE of many cells.

    python -m benchmarks.graphs.diffusion [n_cells]
    python -m benchmarks.graphs.diffusion path [n_cells] [n_genes]

The first prints CPU seconds of the first and of later calls in a fresh process with all compilation (imports excluded),
on one graph of 15 neighbours, the peak of resident memory above the data, and the largest difference of pseudotimes.
The second prints seconds and the peak of resident memory of the process after each step.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from benchmarks.graphs.calls import columns, in_process, peak, timed


def prepare(path: Path, n_cells: int) -> None:
    """Write cells along the edges of a tree, with their neighbours."""
    import anndata as ad

    import dbx

    rng = np.random.default_rng(0)
    corners = np.cumsum(rng.normal(0, 1, (12, 50)), axis=0)
    start, share = rng.integers(0, 11, n_cells), rng.random((n_cells, 1))
    before = np.maximum(start - rng.integers(0, 2, n_cells), 0)
    x = 6 * (corners[before] * (1 - share) + corners[start + 1] * share) + rng.normal(0, 1, (n_cells, 50))
    adata = ad.AnnData(np.zeros((n_cells, 1), np.float32), obsm={"X_pca": x.astype(np.float32)})
    dbx.pp.neighbors(adata, n_neighbors=15, use_rep="X_pca")
    adata.uns["iroot"] = 0
    adata.write(path)


def measure(tool: str, path: str) -> dict[str, float]:
    """CPU seconds of the first call and the median of three later ones, and megabytes of all above the data."""
    import scanpy as sc

    import dbx

    tl, adata = (sc if tool == "scanpy" else dbx).tl, sc.read_h5ad(path)

    def call(data) -> None:
        tl.diffmap(data)
        tl.dpt(data)

    found = timed(call, (adata.copy() for _ in range(4)))
    call(adata)
    adata.write(f"{path}.{tool}.h5ad")
    return found


def beside(n_cells: int) -> None:
    """Print the line of both tools."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.h5ad"
        prepare(path, n_cells)
        found = {tool: in_process("diffusion", sys.executable, tool, str(path)) for tool in ("scanpy", "dbx")}
        print(f"| diffmap and dpt, {n_cells:,} | {columns(found, 'scanpy')} | {_difference(path)} |")


def _difference(path: Path) -> str:
    """Largest difference of the pseudotimes that both tools wrote."""
    import anndata as ad

    one, other = (ad.read_h5ad(f"{path}.{tool}.h5ad").obs["dpt_pseudotime"] for tool in ("scanpy", "dbx"))
    return f"{np.abs(one - other).max():.0e}"


def path_to_fates(n_cells: int, n_genes: int) -> None:
    """Print a line for each step from counts of ``n_cells`` on."""
    import dbx

    cells = dbx.datasets.simulate(n_cells, n_genes, 8, 1, seed=0)
    print(f"| the counts | | {peak() / 1024:.2f} GB |", flush=True)
    ends = {f"end {k}": list(cells.obs_names[20 * k : 20 * k + 20]) for k in range(5)}
    cells.uns["iroot"] = 200
    steps = {
        "normalize_total": lambda: dbx.pp.normalize_total(cells),
        "log1p": lambda: dbx.pp.log1p(cells),
        "pca": lambda: dbx.pp.pca(cells, n_comps=50),
        "neighbors": lambda: dbx.pp.neighbors(cells, n_neighbors=15),
        "diffmap": lambda: dbx.tl.diffmap(cells),
        "dpt": lambda: dbx.tl.dpt(cells),
        "pseudotime": lambda: dbx.tl.pseudotime(cells),
        "fates, connectivity": lambda: dbx.tl.fate_probabilities(cells, ends, kernel="connectivity"),
        "fates, pseudotime": lambda: dbx.tl.fate_probabilities(cells, ends, time_key="pseudotime", key_added="time"),
        "phate": lambda: dbx.tl.phate(cells, use_rep="X_pca"),
    }
    for name, step in steps.items():
        start, cpu = time.perf_counter(), time.process_time()
        step()
        spent, used = time.perf_counter() - start, time.process_time() - cpu
        print(f"| {name} | {spent:.0f} s ({used:.0f} s CPU) | {peak() / 1024:.2f} GB |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given = sys.argv[1:]
    if given[:1] == ["measure"]:
        print(json.dumps(measure(*given[1:])))
    elif given[:1] == ["path"]:
        path_to_fates(*(int(n) for n in (given[1:] + ["100000", "2000"][len(given) - 1 :])))
    else:
        beside(int(given[0]) if given else 20_000)
