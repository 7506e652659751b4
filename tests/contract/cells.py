"""The cells that all examples share: counts of two batches and three groups, and what is usually made of them."""

from __future__ import annotations

from functools import cache

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from dbx.data import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.graph.neighbors import Neighbors

N_FITTED, N_NEW, N_GENES, N_DIMS, N_NEIGHBORS = 120, 40, 60, 6, 8
GRAPH = "obsp/graph"
"""Connectivities of neighbours in ``obsm/embedding``; of new cells, those to the fitted ones."""


@cache
def cells() -> ad.AnnData:
    """All cells: the fitted ones first, then the new ones; the counts are whole and no gene is without any."""
    rng = np.random.default_rng(0)
    n = N_FITTED + N_NEW
    group, batch, donor = rng.integers(0, 3, n), rng.integers(0, 2, n), rng.integers(0, 3, n)
    means = rng.gamma(1.0, 1.5, (3, N_GENES))[group] * rng.gamma(5.0, 0.2, (2, N_GENES))[batch]
    counts = rng.poisson(means * rng.uniform(0.5, 2, (n, 1))).astype(np.float32)
    counts[0] += 1
    log = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 100).astype(np.float32)
    centred = log - log.mean(axis=0)
    axes = np.linalg.svd(centred[:N_FITTED], full_matrices=False)[2][:N_DIMS]
    obs = {
        "batch": pd.Categorical.from_codes(batch, ["a", "b"]),
        "group": pd.Categorical.from_codes(group, ["0", "1", "2"]),
        "donor": pd.Categorical.from_codes(donor, ["d1", "d2", "d3"]),
        "sample": pd.Categorical([f"{'ab'[b]}{i % 3}" for i, b in enumerate(batch)]),
        "labels": pd.Categorical.from_codes(np.where(rng.random(n) < 0.2, -1, group), ["0", "1", "2"]),
        "age": rng.normal(50, 10, n),
        "depth": counts.sum(axis=1).astype(np.float64),
        "chosen": rng.random(n) < 0.8,
    }
    obs = pd.DataFrame(obs, index=[f"cell{i}" for i in range(n)])
    made = ad.AnnData(sparse.csr_matrix(log), obs=obs)
    made.var_names = [f"gene{i}" for i in range(N_GENES)]
    made.layers["counts"], made.layers["log"] = sparse.csr_matrix(counts), sparse.csr_matrix(log)
    untied = made.layers["counts"].copy()
    untied.data = untied.data * np.random.default_rng(1).uniform(0.9, 1.1, untied.nnz).astype(np.float32)
    made.layers["untied"] = untied
    made.layers["above_zero"] = sparse.csr_matrix(counts + 1)
    made.layers["hidden"] = sparse.csr_matrix((np.random.default_rng(4).random(counts.shape) < 0.1).astype(np.float32))
    made.obs["depth"] = counts.sum(axis=1, dtype=np.float64)
    made.obsm["embedding"] = (centred @ axes.T).astype(np.float32)
    made.obsm["start"] = made.obsm["embedding"][:, :2].copy()
    made.obsm["spatial"] = np.random.default_rng(2).uniform(0, 10, (n, 2)).astype(np.float32)
    made.obsm["spatial"][:, 0] += 5 * group
    made.obs["first"], made.obs["last"] = 1.0 * (np.arange(n) % 7 == 0), 1.0 * (np.arange(n) % 5 == 0)
    made.obs["tips"] = made.obs["donor"].where(np.arange(n) % 9 == 0)
    made.obsm["few_counts"], made.obs["size"] = counts[:, :2].copy(), made.obs["depth"] / made.obs["depth"].mean()
    made.obsm["design"] = np.column_stack([np.ones(n), batch == 1]).astype(np.float64)
    made.obs["sequence"], made.obsm["one_hot"] = sequences(group)
    return made


def sequences(group: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Bases of each cell, 12 or 13, with a word of its group in the middle; as text, and one-hot with some noise."""
    rng = np.random.default_rng(3)
    bases = rng.integers(0, 4, (len(group), 13))
    bases[:, 5:8] = np.array([[2, 3, 0], [0, 2, 2], [1, 1, 3]])[group]
    text = ["".join("ACGT"[base] for base in row[: 12 + i % 2]) for i, row in enumerate(bases)]
    one_hot = np.eye(4)[bases] + rng.uniform(0, 0.2, (len(group), 13, 4))
    return text, (one_hot / one_hot.sum(axis=2, keepdims=True)).astype(np.float32)


@cache
def neighbors() -> Neighbors:
    """Fitted on the embedding of the fitted cells."""
    operator = Neighbors(n_neighbors=N_NEIGHBORS)
    operator.fit(x=RowBlocks(cells().obsm["embedding"][:N_FITTED]), rows=np.arange(N_FITTED, dtype=np.int32))
    return operator


@cache
def graph(*, new: bool) -> sparse.csr_matrix:
    """Connectivities of fitted cells, or of new ones to the fitted: CSR of shape (n_cells, N_FITTED)."""
    part = cells()[N_FITTED:] if new else cells()[:N_FITTED]
    rows = np.full(N_NEW, -1, np.int32) if new else np.arange(N_FITTED, dtype=np.int32)
    outputs = apply(neighbors(), {"x": RowBlocks(part.obsm["embedding"]), "rows": rows}, len(rows))
    matrix = outputs["connectivities"].to_csr()
    matrix.sort_indices()
    return matrix
