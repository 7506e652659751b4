"""Frozen and optimised components, and what else could be done: ``python -m benchmarks.optimize.large.gains TASK``.

Tasks are ``ours`` (every k), ``sizes`` (fewer cells at k = 5 and 10), ``peers`` and ``scanvi`` (dbx's own); each result
is a line of ``--out``.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
from benchmarks.optimize.large.ground import cells, macro_f1, prepared, split
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.neighbors import NeighborhoodComponentsAnalysis

import dbx

KS = (2, 5, 10, 20, 50)
SIZES = (2_000, 10_000, 30_000)
NCA_CELLS, NCA_STEPS = 3_000, 50
SCANVI_EPOCHS = 15, 8


def frozen_and_optimised(train, test, k: int, seed: int) -> dict:
    """Macro-F1 of both, and what the training took; ``train`` is prepared, ``test`` are counts without labels."""
    y, truth = train.obs["label"].to_numpy(), test.obs["label"].to_numpy()
    query = test.copy()
    del query.obs["label"]
    dbx.pp.pca(train, n_comps=k)
    start = time.perf_counter(), time.process_time()
    trained = dbx.optimize(train, dbx.losses.CrossEntropy("label"), random_state=seed, copy=True)
    result = {"wall": time.perf_counter() - start[0], "cpu": time.process_time() - start[1]}
    for name, reference in (("frozen", train), ("optimised", trained)):
        found = query.copy()
        dbx.rerun(found, reference=reference)
        result[name] = macro_f1(reference.obsm["X_pca"], y, found.obsm["X_pca"], truth)
    predicted = found.obs["label_predicted"].astype(str)
    return result | {"predicted": 100 * f1_score(truth, predicted, average="macro"), **told(trained)}


def told(trained) -> dict:
    """What ``dbx.optimize`` says of itself."""
    note = trained.uns["optimize"]
    return {"kept": bool(np.all(note["kept"])), "epochs": len(note["history"]["loss"])}


def ours(n_cells: int, ks, seed: int, keep) -> None:
    adata = cells(n_cells, seed)
    rows, apart = split(adata, seed)
    train, test = prepared(adata[rows]), adata[apart].copy()
    for k in ks:
        keep(task="ours", cells=n_cells, k=k, **frozen_and_optimised(train, test, k, seed))


def sizes(n_cells: int, ks, seed: int, keep) -> None:
    """Three quarters of so many cells to train on; judged by the same cells as all are."""
    adata = cells(n_cells, seed)
    rows, apart = split(adata, seed)
    test, order = adata[apart].copy(), np.random.default_rng(seed).permutation(rows)
    for size in SIZES:
        train = prepared(adata[order[: round(0.75 * size)]])
        for k in ks:
            keep(task="sizes", cells=size, k=k, **frozen_and_optimised(train, test, k, seed))


def peers(n_cells: int, ks, seed: int, keep) -> None:
    """The same standardised genes, all of them or projected by sklearn."""
    adata = cells(n_cells, seed)
    rows, apart = split(adata, seed)
    train = prepared(adata[rows])
    query = adata[apart].copy()
    y, truth = train.obs["label"].to_numpy(), query.obs.pop("label").to_numpy()
    dbx.rerun(query, reference=train)
    x, x_query = np.asarray(train.X, np.float32), np.asarray(query.X, np.float32)

    start = time.process_time()
    lda = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(x, y)
    z, z_query, cpu = lda.transform(x), lda.transform(x_query), time.process_time() - start
    for k in ks:
        keep(task="lda", cells=n_cells, k=k, cpu=cpu, f1=macro_f1(z[:, :k], y, z_query[:, :k], truth))
    some = np.random.default_rng(seed).permutation(len(x))[:NCA_CELLS]
    for k in ks:
        start = time.process_time()
        nca = NeighborhoodComponentsAnalysis(k, init="pca", max_iter=NCA_STEPS, random_state=seed).fit(x[some], y[some])
        z, z_query, cpu = nca.transform(x), nca.transform(x_query), time.process_time() - start
        keep(task="nca", cells=n_cells, k=k, cpu=cpu, f1=macro_f1(z, y, z_query, truth))
    start = time.process_time()
    whole = LogisticRegression(C=0.01, max_iter=200).fit(x, y)
    cpu = time.process_time() - start
    f1 = 100 * float(f1_score(truth, whole.predict(x_query), average="macro"))
    keep(task="no_reduction", cells=n_cells, k=x.shape[1], cpu=cpu, steps=int(whole.n_iter_.max()), f1=f1)


def scanvi(n_cells: int, ks, seed: int, keep) -> None:
    """Latent means of a semi-supervised VAE of counts with as many dimensions."""
    adata = cells(n_cells, seed)
    rows, apart = split(adata, seed)
    for k in ks:
        train, query = adata[rows].copy(), adata[apart].copy()
        y, truth = train.obs["label"].to_numpy(), query.obs.pop("label").to_numpy()
        start = time.process_time()
        dbx.tl.annotate(
            train,
            method="scanvi",
            labels_key="label",
            n_latent=k,
            n_copies=0,
            max_epochs=SCANVI_EPOCHS[0],
            label_epochs=SCANVI_EPOCHS[1],
            min_confidence=0.0,
        )
        cpu = time.process_time() - start
        dbx.rerun(query, reference=train)
        z, z_query = (a.obsm["X_scanvi"] for a in (train, query))
        told_ = 100 * f1_score(truth, query.obs["annotation"].astype(str), average="macro")
        keep(task="scanvi", cells=n_cells, k=k, cpu=cpu, predicted=told_, f1=macro_f1(z, y, z_query, truth))


TASKS = {"ours": ours, "sizes": sizes, "peers": peers, "scanvi": scanvi}


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=tuple(TASKS))
    parser.add_argument("--cells", type=int, default=60_000)
    parser.add_argument("--ks", type=int, nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    ks = given.ks or ((5, 10) if given.task == "sizes" else KS)
    for seed in given.seeds:

        def keep(seed=seed, **result):
            with given.out.open("a") as file:
                file.write(json.dumps({"seed": seed, **result}) + "\n")

        TASKS[given.task](given.cells, ks, seed, keep)


if __name__ == "__main__":
    main()
