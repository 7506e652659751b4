"""``dbx.tl.annotate(method="scanvi")`` beside scvi-tools' scANVI: held-out labels and processor seconds of one fit.

    python -m benchmarks.scores.scanvi FILE LABEL --peer PYTHON [--cells 793] [--seeds 2] [--thin 0.02]

``FILE`` has raw counts in ``X``; ``PYTHON`` is an interpreter with scvi-tools. A quarter of the cells, stratified by
label, is held out: both tools see their counts (thinned to a share ``--thin`` of them) and not their labels. Each fit
runs in a process of its own on one core, so that no thread spends seconds waiting for another; its seconds include
compilation and not imports. dbx has its defaults; scvi-tools has the
genes that dbx chose, or all genes with ``--all-genes``, and as many epochs: 200 of the VAE and 20 of scANVI, or its own
defaults with ``--epochs 0``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
from scipy import sparse
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedShuffleSplit

OURS = """
import json, sys, time, warnings, anndata as ad, dbx, jax
from dbx.program.record.registry import load
warnings.filterwarnings("ignore")
path, seed, _, everything = sys.argv[1], *map(int, sys.argv[2:])
adata = ad.read_h5ad(path)
annotate, clock, start = dbx.tl.annotate, time.time(), time.process_time()
annotate(adata, method="scanvi", labels_key="given", min_confidence=0.0, random_state=seed)
spent = {"cpu": time.process_time() - start, "wall": time.time() - clock}
labels, genes = list(adata.obs["annotation"].astype(str)), list(map(str, load(adata)["scanvi"].genes))
print(json.dumps({**spent, "labels": labels, "genes": genes, "tool": f"dbx, jax {jax.__version__}"}))
"""
PEER = """
import json, sys, time, warnings, anndata as ad, scvi, torch
warnings.filterwarnings("ignore")
path, seed, epochs, everything = sys.argv[1], *map(int, sys.argv[2:])
scvi.settings.seed, scvi.settings.verbosity = seed, 40
adata, quiet = ad.read_h5ad(path), {"enable_progress_bar": False, "accelerator": "cpu", "logger": False}
if not everything:
    adata = adata[:, adata.var["chosen"]].copy()
clock, start = time.time(), time.process_time()
scvi.model.SCVI.setup_anndata(adata, labels_key="given")
model = scvi.model.SCVI(adata, gene_likelihood="nb")
model.train(max_epochs=epochs or None, **quiet)
model = scvi.model.SCANVI.from_scvi_model(model, unlabeled_category="Unknown", labels_key="given")
model.train(max_epochs=epochs // 10 or None, **quiet)
labels = list(map(str, model.predict()))
spent = {"cpu": time.process_time() - start, "wall": time.time() - clock}
genes, tool = list(map(str, adata.var_names)), f"scvi-tools {scvi.__version__}, torch {torch.__version__}"
print(json.dumps({**spent, "labels": labels, "genes": genes, "tool": tool}))
"""


def main() -> None:
    """Print a line for each seed and tool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("label")
    parser.add_argument("--peer", required=True)
    parser.add_argument("--dbx", default="python", help="the interpreter with dbx")
    parser.add_argument("--cells", type=int)
    parser.add_argument("--thin", type=float)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--all-genes", action="store_true")
    asked = parser.parse_args()
    for seed in range(asked.seeds):
        adata, truth, hidden = split(asked, seed)
        with tempfile.TemporaryDirectory() as folder:
            path, options = str(Path(folder) / "cells.h5ad"), (seed, asked.epochs, int(asked.all_genes))
            adata.write_h5ad(path)
            ours = fit(asked.dbx, OURS, path, options)
            adata.var["chosen"] = adata.var_names.isin(ours["genes"])
            adata.write_h5ad(path)
            for found in (ours, fit(asked.peer, PEER, path, options)):
                labels = np.array(found["labels"])[hidden]
                print(
                    f"{Path(asked.file).stem} {adata.n_obs} cells, {len(found['genes'])} genes, seed {seed}, "
                    f"{found['tool']}: macro-F1 {f1_score(truth[hidden], labels, average='macro'):.3f} "
                    f"accuracy {(truth[hidden] == labels).mean():.3f} "
                    f"CPU {found['cpu']:.1f} s, wall {found['wall']:.1f} s",
                    flush=True,
                )


def split(asked, seed: int) -> tuple[ad.AnnData, np.ndarray, np.ndarray]:
    """Cells with what is known of their labels, all labels, and which are held out."""
    adata, rng = ad.read_h5ad(asked.file), np.random.default_rng(seed)
    label = adata.obs[asked.label].astype(str)
    rows = np.flatnonzero(~label.isin(["NA", "nan", "None", "?"]).to_numpy())
    if asked.cells is not None and asked.cells < len(rows):
        rows = np.sort(rng.choice(rows, asked.cells, replace=False))
    truth = label.to_numpy().astype(str)[rows]
    _, held_out = next(StratifiedShuffleSplit(1, test_size=0.25, random_state=seed).split(truth, truth))
    hidden = np.isin(np.arange(len(rows)), held_out)
    counts = sparse.csr_matrix(adata.X[rows], dtype=np.float32)
    if asked.thin is not None:
        kept = np.where(np.repeat(hidden, np.diff(counts.indptr)), asked.thin, 1.0)
        counts.data = rng.binomial(np.rint(counts.data).astype(int), kept).astype(np.float32)
        counts.eliminate_zeros()
    given = np.where(hidden, "Unknown", truth).astype(object)
    cells = ad.AnnData(counts, obs={"given": given})
    cells.var_names = adata.var_names.to_numpy().astype(object)
    cells.var_names_make_unique()
    some = np.asarray((counts > 0).sum(axis=0)).ravel() >= 3
    return cells[:, some].copy(), truth, hidden


def fit(python: str, program: str, path: str, options: tuple[int, ...]) -> dict:
    """What one tool prints in a process of its own."""
    command = ["taskset", "-c", "0", python, "-c", program, path, *map(str, options)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
