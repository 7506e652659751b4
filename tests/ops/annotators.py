"""Planted cell types for the tests of annotators: three kinds, two batches, deep labelled cells and shallow others."""

import numpy as np
from scipy import sparse

from dbx.data import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.values import Codes

KINDS = ("a", "b", "c")
N_GENES = 120


def planted(n_cells=300, *, seed=0, share_labelled=0.5, depths=(2000, 30)):
    """Counts, kinds and labels: ten genes mark each kind; labelled cells have the first depth."""
    rng = np.random.default_rng(seed)
    profile = np.random.default_rng(99).gamma(0.8, size=(1, N_GENES)) + 0.05
    profile = np.repeat(profile, 3, axis=0)
    for kind in range(3):
        profile[kind, 10 * kind : 10 * kind + 10] *= 5
    profile /= profile.sum(axis=1, keepdims=True)
    kind, batch = rng.integers(0, 3, n_cells), rng.integers(0, 2, n_cells)
    labelled = np.arange(n_cells) < share_labelled * n_cells
    depth = np.where(labelled, *depths) * rng.uniform(0.7, 1.4, n_cells)
    counts = rng.poisson(profile[kind] * depth[:, None] * rng.gamma(20, 1 / 20, (n_cells, N_GENES)))
    counts[counts.sum(axis=1) == 0, 0] = 1
    return {
        "counts": sparse.csr_matrix(counts.astype(np.float32)),
        "kind": kind,
        "labels": Codes(np.where(labelled, kind, 3).astype(np.int32), (*KINDS, "Unknown")),
        "batch": Codes(batch.astype(np.int32), ("x", "y")),
        "unlabelled": ~labelled,
    }


def inputs(data, *names):
    """What an operator takes of planted data."""
    return {"x": RowBlocks(data["counts"])} | {name: data[name] for name in names}


def annotated(operator, data, *names):
    """All outputs of a fitted operator."""
    return apply(operator, inputs(data, *names), len(data["kind"]))


def accuracy(found, data, cells=None):
    """Share of the cells (the unlabelled ones by default) whose label is their kind."""
    cells = data["unlabelled"] if cells is None else cells
    return (np.asarray(found["labels"].codes)[cells] == data["kind"][cells]).mean()
