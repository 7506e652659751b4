"""A VAE trained on by labels beside scANVI: coordinates and predictions of cells whose labels nothing saw.

    python -m benchmarks.optimize.scanvi FILE LABEL [--n-latent 5] [--splits 3] [--peer PYTHON]

``FILE`` has raw counts in X; ``PYTHON`` is an interpreter with scvi-tools. Each split sets a quarter of the cells
aside. Judged by macro-F1: of logistic regression on the coordinates (fitted on the other cells), and of the model's own
labels. scvi-tools' scANVI sees the counts of the cells to be predicted, too, and trains 100 epochs after its VAE (10 by
default).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import anndata as ad
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedShuffleSplit

import dbx
from dbx.losses import CrossEntropy

PEER = """
import json, sys, time, warnings, anndata as ad, numpy as np, scvi
warnings.filterwarnings("ignore")
path, n_latent, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
scvi.settings.seed, scvi.settings.verbosity = seed, 40
adata = ad.read_h5ad(path)
start = time.time()
scvi.model.SCVI.setup_anndata(adata, labels_key="given")
model = scvi.model.SCVI(adata, n_latent=n_latent, n_layers=1, gene_likelihood="zinb")
model.train(enable_progress_bar=False, accelerator="cpu")
model = scvi.model.SCANVI.from_scvi_model(model, unlabeled_category="Unknown", labels_key="given")
model.train(max_epochs=100, enable_progress_bar=False, accelerator="cpu")
np.savez(path + ".npz", z=model.get_latent_representation(), labels=np.asarray(model.predict(), dtype=str))
print(json.dumps({"seconds": time.time() - start, "version": scvi.__version__}))
"""


def main() -> None:
    """Print a line for each method and split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("label")
    parser.add_argument("--n-latent", type=int, default=5)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--peer")
    asked = parser.parse_args()
    adata = ad.read_h5ad(asked.file)
    label = adata.obs[asked.label].astype(str)
    known = label.map(label.value_counts()).to_numpy() >= 10
    known &= ~label.isin(["NA", "nan", "None"]).to_numpy()
    adata = ad.AnnData(adata.X[known].astype(np.float32), var=adata.var[[]], obs={"label": label[known].to_numpy()})
    adata.obs["label"] = adata.obs["label"].astype(object)
    for split in range(asked.splits):
        codes = adata.obs["label"].to_numpy()
        parts = next(StratifiedShuffleSplit(1, test_size=0.25, random_state=split).split(codes, codes))
        train, test = (adata[part].copy() for part in parts)
        truth = test.obs.pop("label").to_numpy().astype(str)
        for name, found in _ours(train, test, asked.n_latent):
            _report(asked, split, name, train.obs["label"].to_numpy().astype(str), truth, found)
        if asked.peer:
            found = _peer(asked.peer, train, test, asked.n_latent, split)
            _report(asked, split, "scANVI (scvi-tools)", train.obs["label"].to_numpy().astype(str), truth, found)


def _ours(train, test, n_latent: int):
    """(name, (coordinates of the training cells, of the others, labels of these, seconds))."""
    start = time.time()
    frozen = train.copy()
    dbx.pp.vae_normalize(frozen, n_latent=n_latent)
    fitted = time.time() - start
    yield "VAE", (*_mapped(frozen, test, "X_vae"), None, fitted)
    start = time.time()
    trained = dbx.optimize(frozen, CrossEntropy("label"), copy=True)
    here, there, query = *_mapped(trained, test, "X_vae"), _query(trained, test)
    labels = query.obs["label_predicted"].astype(str).to_numpy()
    yield "VAE, optimised", (here, there, labels, fitted + time.time() - start)
    start = time.time()
    both = train.copy()
    dbx.tl.annotate(both, method="scanvi", labels_key="label", n_latent=n_latent, min_confidence=0.0)
    query = _query(both, test)
    labels = query.obs["annotation"].astype(str).to_numpy()
    yield "scANVI (tl.annotate)", (both.obsm["X_scanvi"], query.obsm["X_scanvi"], labels, time.time() - start)


def _query(reference, test):
    query = test.copy()
    query.obs_names = [f"new{i}" for i in range(test.n_obs)]
    dbx.rerun(query, reference=reference)
    return query


def _mapped(reference, test, key: str):
    return reference.obsm[key], _query(reference, test).obsm[key]


def _peer(python: str, train, test, n_latent: int, seed: int):
    """scvi-tools' scANVI, its VAE trained by its defaults; cells to be predicted take part without their labels."""
    given = np.r_[train.obs["label"].to_numpy().astype(str), np.full(test.n_obs, "Unknown")]
    both = ad.AnnData(
        ad.concat([train, test], index_unique="-", keys=["a", "b"]).X, obs={"given": given.astype(object)}
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.h5ad"
        both.write_h5ad(path)
        command = [python, "-c", PEER, str(path), str(n_latent), str(seed)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1]
        found = np.load(f"{path}.npz")
    z, labels = found["z"], found["labels"]
    return z[: train.n_obs], z[train.n_obs :], labels[train.n_obs :], json.loads(output)["seconds"]


def _report(asked, split: int, name: str, known, truth, found) -> None:
    here, there, labels, seconds = found
    centre, spread = here.mean(axis=0), here.std(axis=0) + 1e-8
    model = LogisticRegression(max_iter=5000).fit((here - centre) / spread, known)
    scores = {"coordinates": f1_score(truth, model.predict((there - centre) / spread), average="macro")}
    if labels is not None:
        scores["labels"] = f1_score(truth, labels, average="macro")
    text = " ".join(f"{what} {score:.3f}" for what, score in scores.items())
    print(f"{Path(asked.file).stem} k={asked.n_latent} split {split} {name}: {text} ({seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
