"""Every main step on a GPU beside the CPU of the same machine: first and second call, and how far results differ.

python -m benchmarks.devices --cells 5000
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Step = tuple[str, Callable[[], Any], Callable[[], Any] | None]
"""Name, call, and what of its result is compared."""
ENVIRONMENTS = {"cpu": {"JAX_PLATFORMS": "cpu"}, "gpu": {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}}


def main() -> None:
    """Run all steps in a process for each device and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=5000)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        measure(args.cells, Path(args.worker))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for device, environment in ENVIRONMENTS.items():
            command = [sys.executable, "-m", "benchmarks.devices", "--cells", str(args.cells), "--worker"]
            subprocess.run([*command, f"{folder}/{device}"], check=True, env=os.environ | environment)
            results = np.load(f"{folder}/{device}.npz")
            found[device] = json.loads(Path(f"{folder}/{device}.json").read_text()), results
    report(*found["cpu"], *found["gpu"])


def report(cpu, cpu_results, gpu, gpu_results) -> None:
    """Print seconds and the largest difference relative to the largest value."""
    print("| step | CPU first, second s | GPU first, second s | largest difference |\n| --- | ---: | ---: | ---: |")
    for name in cpu:
        difference = ""
        if name in cpu_results and name in gpu_results:
            ours, theirs = (np.asarray(part[name], float) for part in (cpu_results, gpu_results))
            difference = f"{np.nanmax(np.abs(ours - theirs)) / np.nanmax(np.abs(ours)):.1g}"
        print(f"| {name} | {cpu[name]} | {gpu.get(name, '')} | {difference} |")


def measure(n_cells: int, path: Path) -> None:
    """Run each step twice and store seconds or the error, and results."""
    import jax

    print(jax.devices()[0], jax.__version__, flush=True)
    seconds, results = {}, {}
    for name, call, result in steps(n_cells):
        seconds[name] = timed(call)
        print(name, seconds[name], flush=True)
        if result is not None and seconds[name].count(","):
            results[name] = np.asarray(result())
    np.savez(path.with_suffix(".npz"), **results)
    path.with_suffix(".json").write_text(json.dumps(seconds))


def timed(call: Callable[[], Any]) -> str:
    """Seconds of a first and a second call, or what it raised."""
    row = []
    for _ in range(2):
        start = time.perf_counter()
        try:
            call()
        except Exception as error:  # noqa: BLE001  a step that fails on one device is a result
            traceback.print_exc(limit=-4)
            return type(error).__name__
        row.append(f"{time.perf_counter() - start:.2f}")
    return ", ".join(row)


def steps(n_cells: int) -> Iterator[Step]:
    """Steps in an order in which each finds what it reads."""
    import dbx

    pp, tl = dbx.pp, dbx.tl
    counts = dbx.datasets.simulate(n_cells, 2000, 12, 3)
    adata = counts.copy()

    def normalised() -> None:
        found = counts.copy()
        pp.normalize_total(found, target_sum=1e4)
        pp.log1p(found)
        adata.X = found.X

    yield "normalize_total, log1p", normalised, lambda: adata.X[:50].toarray()
    yield "highly_variable_genes", lambda: pp.highly_variable_genes(adata, n_top_genes=1000), None
    yield "pca", lambda: pp.pca(adata, n_comps=50), lambda: adata.obsm["X_pca"]
    yield "harmony", lambda: tl.harmony(adata, "batch"), lambda: adata.obsm["X_pca_harmony"]
    yield "neighbors", lambda: pp.neighbors(adata, use_rep="X_pca"), lambda: adata.obsp["connectivities"].sum(axis=1)
    yield "umap", lambda: tl.umap(adata), None
    yield "leiden", lambda: tl.leiden(adata), None
    yield "rank_genes_groups", lambda: tl.rank_genes_groups(adata, "group", method="wilcoxon"), None
    yield "lisi", lambda: tl.lisi(adata, ["batch"]), None
    adata.uns["iroot"] = 0
    yield "diffmap", lambda: tl.diffmap(adata), lambda: np.abs(adata.obsm["X_diffmap"])
    yield "dpt", lambda: tl.dpt(adata), lambda: adata.obs["dpt_pseudotime"]
    yield "pseudotime", lambda: tl.pseudotime(adata), lambda: adata.obs["pseudotime"]
    groups = adata.obs["group"].astype(str)
    chosen = groups[groups.isin(sorted(groups.unique())[:3])].groupby(groups).head(30).index
    adata.obs["ends"] = groups.where(groups.index.isin(chosen)).astype("category")
    fates = lambda: tl.fate_probabilities(adata, "ends", kernel="connectivity")  # noqa: E731
    yield "fate_probabilities", fates, lambda: adata.obsm["lineages_fwd"]
    magic = lambda: pp.magic(adata, name_list=list(adata.var_names[:50]))  # noqa: E731
    yield "magic", magic, lambda: adata.obsm["X_magic"]
    yield "phate", lambda: tl.phate(adata), None
    yield "archetypes", lambda: tl.archetypes(adata, 5), None
    yield "scrublet", lambda: pp.scrublet(counts.copy()), None
    few = counts[:5000].copy()
    yield "vae_normalize, 20 epochs", lambda: pp.vae_normalize(few, max_epochs=20), None
    yield "denoise, 20 epochs", lambda: pp.denoise(few, max_epochs=20), None
    annotate = lambda: tl.annotate(few, method="scanvi", labels_key="group", max_epochs=10)  # noqa: E731
    yield "annotate, scanvi, 10 epochs", annotate, None
    yield "vst", lambda: tl.vst(counts[:5000].copy(), size_factors="poscounts"), None
    part = adata[:5000].copy()
    yield "umap, parametric, 5 epochs", lambda: tl.umap(part, method="parametric", max_epochs=5), None


if __name__ == "__main__":
    main()
