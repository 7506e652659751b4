"""Seconds per epoch of ``dbx.optimize`` beside plain JAX: ``python -m benchmarks.optimize.large.overhead SIZE``.

Both train the same projection with the same minibatches, dropout, penalty, head and Adam, and judge the same share of
held-out cells after every epoch. They take turns epoch by epoch in one process: other work on the machine hits both.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
from benchmarks.optimize.large import by_hand
from benchmarks.optimize.large.ground import SETTINGS, cells, prepared

import dbx
from dbx.ops.nn.epochs import default_batch_size

FORMS = {
    "60k": {"n_cells": 45_000, "n_genes": 2000, "n_types": 59, "epochs": 25},
    "starmap": {"n_cells": 2_384, "n_genes": 166, "n_types": 16, "epochs": 1001},
}
"""As many cells as are trained on, held-out ones included."""
ANCHOR = 200.0
SKIPPED = 2
"""First epochs of both, which compile."""


def clock() -> np.ndarray:
    """Processor and wall seconds."""
    return np.array([time.process_time(), time.perf_counter()])


class Turns:
    """A progress that hands the next epoch to the other."""

    def __init__(self, other, n_epochs: int):
        self.other, self.n_epochs, self.ours, self.plain, self.since = other, n_epochs, [], [], None

    @contextmanager
    def __call__(self, *_):
        yield self.show

    def show(self, done: int, total: int, *_) -> None:
        if total != self.n_epochs:  # the head on the coordinates as they are
            return
        start = clock()
        if self.since is not None:
            self.ours.append(start - self.since)
        next(self.other)
        self.since = clock()
        self.plain.append(self.since - start)


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", choices=FORMS)
    parser.add_argument("--k", type=int, default=5)
    given = parser.parse_args()
    form = dict(FORMS[given.size])
    n_epochs = form.pop("epochs")
    n_genes, n_types = form["n_genes"], form["n_types"]
    settings = SETTINGS if n_types > 48 else {"nested": 4, "batch_scale": 0.2, "library_size": 100}
    adata = prepared(cells(form["n_cells"], 0, n_genes, n_types, **settings))
    dbx.pp.pca(adata, n_comps=given.k)
    codes = np.unique(adata.obs["label"].astype(str), return_inverse=True)[1]
    pca = {
        "mean": np.asarray(adata.X, np.float32).mean(axis=0),
        "components": adata.varm["PCs"],
        "variance": adata.uns["pca"]["variance"],
    }
    fixed = by_hand.fixed_for(np.asarray(adata.X, np.float32), codes, pca, ANCHOR)
    size = default_batch_size(round(0.85 * adata.n_obs))

    turns = Turns(by_hand.epochs(fixed, size=size), n_epochs)
    with patch("dbx.program.log.progress", turns):
        dbx.optimize(
            adata,
            dbx.losses.CrossEntropy("label"),
            train="pca",
            max_epochs=n_epochs,
            patience=n_epochs,
            batch_size=size,
            anchor=ANCHOR,
        )
    ours, plain = np.array(turns.ours)[SKIPPED:], np.array(turns.plain)[1 + SKIPPED :]
    found = {"size": given.size, "k": given.k, "minibatch": size, "epochs": len(ours)}
    for i, kind in enumerate(("cpu", "wall")):
        found[kind] = {"ours": np.median(ours[:, i]), "plain": np.median(plain[:, i])}
        found[kind]["ratio"] = found[kind]["ours"] / found[kind]["plain"]
        found[kind]["quiet ratio"] = np.quantile(ours[:, i], 0.1) / np.quantile(plain[:, i], 0.1)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
