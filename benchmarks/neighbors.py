"""pp.neighbors beside scanpy's from a thousand cells on: first and later calls, recall, memory.

python -m benchmarks.neighbors --cells 1000 3000 10000 30000 100000
python -m benchmarks.neighbors --cells 300000 1000000 --tools dbx
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

K = 15
SAMPLED = 1000


def main() -> None:
    """Simulate, run each tool in a process of its own for each size, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[1000, 3000, 10_000, 30_000, 100_000])
    parser.add_argument("--tools", nargs="+", default=["scanpy", "dbx"])
    parser.add_argument("--later", type=int, default=3, help="calls after the first")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(measure(args.worker[0], Path(args.worker[1]), int(args.worker[2]), args.later)))
        return
    print(f"{datetime.now():%Y-%m-%d}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {versions()}\n")
    print("| cells | tool | first s | later s | recall | MB |\n| ---: | --- | ---: | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        components = simulated(max(args.cells), Path(folder))
        for n_cells in args.cells:
            for tool in args.tools:
                found = run(tool, components, n_cells, args.later)
                print(
                    "| {cells:,} | {tool} | {first:.2f} | {later:.2f} | {recall:.3f} | {mb:.0f} |".format(**found),
                    flush=True,
                )


def simulated(n_cells: int, folder: Path) -> Path:
    """50 principal components of simulated counts: 2,000 genes, 12 groups, 3 batches, about 238 nonzeros a cell."""
    import numpy as np

    import dbx

    adata = dbx.datasets.simulate(n_cells, 2000, 12, 3)
    dbx.pp.normalize_total(adata, target_sum=1e4)
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=50)
    shuffled = np.random.default_rng(0).permutation(n_cells)
    np.save(folder / "components.npy", adata.obsm["X_pca"][shuffled].astype(np.float32))
    return folder / "components.npy"


def run(tool: str, components: Path, n_cells: int, later: int) -> dict:
    """One tool on the first cells, in a fresh process without compiled code of an earlier one."""
    with tempfile.TemporaryDirectory() as empty:
        call = [sys.executable, "-W", "ignore", "-m", "benchmarks.neighbors", "--later", str(later)]
        call += ["--worker", tool, str(components), str(n_cells)]
        out = subprocess.run(
            call, env={**os.environ, "NUMBA_CACHE_DIR": empty}, check=True, stdout=subprocess.PIPE, text=True
        )
    return json.loads(out.stdout.splitlines()[-1])


def measure(tool: str, components: Path, n_cells: int, later: int) -> dict:
    """Seconds of the first call (imports of the tool itself left out) and of the fastest later one."""
    import anndata as ad
    import numpy as np

    module = __import__({"scanpy": "scanpy", "dbx": "dbx"}[tool])
    adata = ad.AnnData(np.zeros((n_cells, 1), np.float32))
    adata.obsm["X_pca"] = np.load(components, mmap_mode="r")[:n_cells].copy()
    before, seconds, highest = peak(), [], []
    for _ in range(1 + later):
        start = time.perf_counter()
        module.pp.neighbors(adata, n_neighbors=K, use_rep="X_pca")
        seconds.append(time.perf_counter() - start)
        highest.append(peak())
    return {
        "cells": n_cells,
        "tool": tool,
        "first": seconds[0],
        "later": min(seconds[1:], default=float("nan")),
        "recall": recall(adata),
        "mb": highest[0] - before,
    }


def recall(adata) -> float:
    """Fraction of the nearest cells that were found, over sampled cells."""
    import numpy as np
    from sklearn.neighbors import NearestNeighbors

    x = adata.obsm["X_pca"]
    rows = np.sort(np.random.default_rng(1).choice(len(x), min(SAMPLED, len(x)), replace=False))
    true = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(x).kneighbors(x[rows], return_distance=False)
    found = adata.obsp["distances"]
    shared = [len(set(found[row].indices) & (set(near) - {row})) for row, near in zip(rows, true, strict=True)]
    return float(np.mean(shared)) / (K - 1)


def peak() -> float:
    """Largest memory of this process so far, in MB; that of getrusage starts with the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def versions() -> str:
    """Versions of what is compared."""
    names = ("dbx-bio", "scanpy", "pynndescent", "numba", "jax", "numpy")
    return ", ".join(f"{name} {version(name)}" for name in names)


if __name__ == "__main__":
    main()
