"""The workflow on counts that stay in their file: ``python -m benchmarks.scaling.on_disk 100000 --folder FOLDER``.

The counts are simulated into a file. One process runs the whole workflow on a copy of it, as a session would; the other
calls have a process each.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.scaling.__main__ import ask
from benchmarks.scaling.report import markdown
from benchmarks.scaling.steps import RERUN
from benchmarks.scaling.worker import measure

SESSION = {
    "normalize_total": "dbx.pp.normalize_total(adata, target_sum=1e4)",
    "log1p": "dbx.pp.log1p(adata)",
    "highly_variable_genes": "dbx.pp.highly_variable_genes(adata, n_top_genes=1000)",
    "pca, 50 components": "dbx.pp.pca(adata, n_comps=50)",
    "harmony, 3 batches": "dbx.tl.harmony(adata, key='batch')",
    "neighbors": "dbx.pp.neighbors(adata, use_rep='X_pca_harmony')",
    "umap": "dbx.tl.umap(adata)",
    "leiden": "dbx.tl.leiden(adata, flavor='igraph', n_iterations=2, directed=False)",
    "rank_genes_groups, wilcoxon, 12 groups": "dbx.tl.rank_genes_groups(adata, 'group', method='wilcoxon')",
    "score_genes, 50 genes": "dbx.tl.score_genes(adata, list(adata.var_names[:50]))",
    "write what is not counts": "adata.write()",
}
"""On log values, in one process."""
OF_COUNTS = {
    "calculate_qc_metrics": "dbx.pp.calculate_qc_metrics(adata)",
    "highly_variable_genes, seurat_v3": "dbx.pp.highly_variable_genes(adata, n_top_genes=1000, flavor='seurat_v3')",
    "de, 12 groups x 6 samples": "dbx.tl.de(adata, '~condition', sample_key='sample', group_key='group')",
    "vae_normalize, 1 epoch": "dbx.pp.vae_normalize(adata, normalized_layer=None, max_epochs=1)",
}
"""On the counts, each in a process of its own."""
AFTERWARDS = {
    "optimize, pca and soft_clusters, 1 epoch": (
        "dbx.tl.soft_clusters(adata, 'group'); "
        "dbx.optimize(adata, dbx.losses.CrossEntropy('group'), train='pca', max_epochs=1)"
    ),
    RERUN: "dbx.rerun(new, adata)",
}
"""On the file that the session left, each in a process of its own."""


def files(folder: Path, n_cells: int) -> dict[str, Path]:
    """The counts, the copy that the session changes, and the counts of new cells."""
    return {name: folder / f"{name}_on_disk_{n_cells}.h5ad" for name in ("counts", "session", "new")}


def prepare(folder: Path, n_cells: int) -> None:
    """Counts of six samples under two conditions, and of new cells with the same groups and batches."""
    import numpy as np

    import dbx

    place = files(folder, n_cells)
    dbx.datasets.simulate(n_cells // 10, 2000, 12, 3, seed=0, filename=place["new"])
    adata = dbx.datasets.simulate(n_cells, 2000, 12, 3, seed=0, filename=place["counts"])
    row = np.arange(n_cells)
    adata.obs["sample"] = [f"s{i}" for i in row % 6]
    adata.obs["condition"] = np.where(row % 2, "a", "b")
    adata.write()
    adata.file.close()
    shutil.copy(place["counts"], place["session"])


def session(folder: Path, n_cells: int) -> dict[str, Any]:
    """Every step of the workflow, one after the other."""
    import anndata

    import dbx

    adata = anndata.read_h5ad(files(folder, n_cells)["session"], backed="r+")
    found = {}
    for name, call in SESSION.items():
        found[name] = measure(call, {"dbx": dbx, "adata": adata})
        print(name, found[name], file=sys.stderr, flush=True)
    return found


def alone(folder: Path, n_cells: int, name: str) -> dict[str, Any]:
    """One call on a file that is open for reading."""
    import anndata

    import dbx

    place = files(folder, n_cells)
    adata = anndata.read_h5ad(place["counts" if name in OF_COUNTS else "session"], backed="r")
    new = anndata.read_h5ad(place["new"]) if name == RERUN else None
    return {name: measure((OF_COUNTS | AFTERWARDS)[name], {"dbx": dbx, "adata": adata, "new": new})}


def table(found: dict[str, dict[str, float]]) -> str:
    """Seconds, and memory above that before the call and in all."""
    rows = [["step", "wall s", "processor s", "MB above", "MB of the process"]]
    rows += [
        [name, f"{one['wall']:.1f}", f"{one['cpu']:.1f}", f"{one['memory']:,.0f}", f"{one['process']:,.0f}"]
        for name, one in found.items()
    ]
    return markdown(rows)


def main() -> None:
    """Measure everything, or with ``--only`` one part, in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=int)
    parser.add_argument("--folder", type=Path, help="a folder that keeps the files: 5 GB for a million cells")
    parser.add_argument("--only", help="a part, whose numbers are printed as JSON")
    options = parser.parse_args()
    if options.only:
        parts = {"prepare": prepare, "session": session}
        run = parts.get(options.only) or partial(alone, name=options.only)
        print(json.dumps(run(options.folder, options.cells)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(exist_ok=True)
        found: dict[str, dict[str, float]] = {}
        for part in ("prepare", "session", *OF_COUNTS, *AFTERWARDS):
            answer = json.loads(ask("on_disk", options.cells, "--folder", folder, "--only", part).splitlines()[-1])
            print(part, answer, file=sys.stderr, flush=True)
            found |= answer or {}
    print(table(found))


if __name__ == "__main__":
    main()
