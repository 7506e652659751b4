"""A projection before and after ``dbx.optimize``, as the scorer of it calls them."""

from __future__ import annotations

import numpy as np
import scanpy as sc

import dbx


def run(train, test, k: int, seed: int):
    """Coordinates of (train, test) cells by components as they were fitted, and as they were trained by the labels."""
    train.obs_names, test.obs_names = [
        [f"{name}{i}" for i in range(a.n_obs)] for name, a in (("a", train), ("b", test))
    ]
    train.obs["label"] = train.obs["label"].astype(object)
    dbx.pp.normalize_total(train, target_sum=float(np.median(np.asarray(train.X.sum(axis=1)))))
    dbx.pp.log1p(train)
    if train.n_vars > 2000:
        sc.pp.highly_variable_genes(train, n_top_genes=2000)
        train = train[:, train.var["highly_variable"]].copy()
    dbx.pp.scale(train, max_value=10)
    dbx.pp.pca(train, n_comps=min(k, train.n_vars - 1, train.n_obs - 1))
    trained = dbx.optimize(train, dbx.losses.CrossEntropy("label"), random_state=seed, copy=True)
    found = []
    for reference in (train, trained):
        cells = test.copy()
        dbx.rerun(cells, reference=reference)
        found += [reference.obsm["X_pca"], cells.obsm["X_pca"]]
    return tuple(found)
