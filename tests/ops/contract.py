"""An example of every operator in the catalogue: fitted on the same few cells, by what it declares to take."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse
from sklearn.neighbors import kneighbors_graph

from dbx.data import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.catalogue import CATALOGUE
from dbx.ops.operator import Operator
from dbx.ops.values import Codes, Edges, Frame, GroupTable

N_CELLS, N_GENES, N_DIMS, N_NEIGHBORS = 120, 60, 6, 8

CONFIGS: dict[str, dict[str, Any]] = {
    "normalize_total": {"target_sum": 100.0},
    "pca": {"n_comps": 4},
    "gene_gate": {"n_genes": 20, "order": tuple(range(0, 60, 2)) + tuple(range(1, 60, 2))},
    "highly_variable_genes": {"n_top_genes": 20},
    "highly_variable_genes_v3": {"n_top_genes": 20, "span": 0.7},
    "umap": {"n_epochs": 20},
    "parametric_umap": {"n_epochs": 20, "n_hidden": 8, "n_layers": 1, "max_epochs": 2},
    "neighbors": {"n_neighbors": N_NEIGHBORS},
    "vae_normalize": {"n_latent": 3, "n_hidden": 8, "max_epochs": 3},
    "nb_glm": {"design": "~ batch", "size_factors": "poscounts"},
    "vst": {"size_factors": "poscounts"},
    "celltypist": {"vote": "neighbors", "top_genes": 20, "n_copies": 1},
    "scanvi": {"n_latent": 3, "n_hidden": 8, "max_epochs": 3, "label_epochs": 2},
    "cellassign": {"classes": ("a", "b"), "markers": ((0, 1, 2), (3, 4, 5)), "max_epochs": 3},
    "solo": {"n_latent": 3, "n_hidden": 8, "max_epochs": 3, "classifier_epochs": 2, "n_draws": 1},
    "mmd": {"n_latent": 3, "n_hidden": 8, "max_epochs": 3},
    "wgan": {"n_latent": 3, "n_hidden": 8, "max_epochs": 3},
    "denoise": {"n_units": 8, "n_latents": 2, "max_epochs": 3},
    "remove_ambient": {"rate": 0.1, "n_clusters": 3},
}
"""Settings that an operator needs, or that keep its example quick; most need none."""


GIVEN = {
    "nb_glm": {"frame"},
    "celltypist": {"graph"},
    "cellassign": {"batch"},
    "mmd": {"batch"},
    "wgan": {"batch"},
}
"""Optional inputs that an example has all the same."""

SURROGATES = {"gene_gate": {"scores"}}
"""Parameters whose gradient is not the derivative but a declared surrogate, which the operator's own test compares."""

LACKS = {"nb_glm": {"own_size_factors", "long_table", "samples"}}
"""Views that an example of these settings does not have."""


@dataclass
class Example:
    """A fitted operator with the inputs it was fitted on and called with."""

    operator: Operator
    fit: dict[str, Any]
    call: dict[str, Any]
    n_cells: int = N_CELLS

    def outputs(self, call: dict[str, Any] | None = None, n_cells: int | None = None) -> dict[str, Any]:
        return apply(self.operator, self.call if call is None else call, n_cells or self.n_cells)


@cache
def material() -> dict[str, Any]:
    """Counts of two batches and three groups, and what is usually made of them."""
    rng = np.random.default_rng(0)
    group, batch = rng.integers(0, 3, N_CELLS), rng.integers(0, 2, N_CELLS)
    means = rng.gamma(1.0, 1.5, (3, N_GENES))[group] * rng.gamma(5.0, 0.2, (2, N_GENES))[batch]
    counts = rng.poisson(means * rng.uniform(0.5, 2, (N_CELLS, 1))).astype(np.float32)
    counts[0] += 1  # no empty gene
    log = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 100)
    u, s, _ = np.linalg.svd(log - log.mean(axis=0), full_matrices=False)
    embedding = (u[:, :N_DIMS] * s[:N_DIMS]).astype(np.float32)
    graph = kneighbors_graph(embedding, N_NEIGHBORS, mode="distance")
    graph.data = np.exp(-graph.data / graph.data.mean())
    graph = graph.maximum(graph.T).astype(np.float32).tocsr()
    graph.sort_indices()
    return {
        "counts": counts,
        "normalized": counts,
        "log": log.astype(np.float32),
        "embedding": embedding,
        "graph": graph,
        "batch": Codes(batch.astype(np.int32), ("a", "b")),
        "group": Codes(group.astype(np.int32), ("0", "1", "2")),
        "rows": np.arange(N_CELLS, dtype=np.int32),
    }


def values(operator: Operator, kind: str, content: tuple[str, ...], *, genes: bool) -> Any:
    """Material for an input of this kind."""
    have = material()
    if kind == "matrix":
        return have[content[0] if content else "log"] if genes else have["embedding"]
    if kind == "columns":
        return {"batch": have["batch"]}
    return have[{"graph": "graph", "codes": "batch", "rows": "rows"}[kind]]


def fitted(name: str, wrap=sparse.csr_matrix) -> Example:
    """The example of one operator; ``wrap`` makes its gene matrices of another kind."""
    operator = CATALOGUE[name](**CONFIGS.get(name, {}))
    precise = np.float64 if operator.precision == "float64" else np.float32
    fit, call = {}, {}
    for key, port in operator.inputs.items():
        if port.optional and key not in GIVEN.get(name, ()):
            continue
        value = values(operator, port.kind, port.content, genes=port.genes)
        if port.kind == "matrix":
            value = RowBlocks(wrap(value) if port.genes else value, dtype=precise)
        fit[key] = value
        call[key] = Edges(value, material()["rows"]) if port.kind == "graph" else value
    operator.fit(**fit, seed=0)
    return Example(operator, fit, call)


@cache
def example(name: str) -> Example:
    """The example, fitted once a session."""
    return fitted(name)


def maps_cells(name: str) -> bool:
    """Whether the operator computes anything for cells."""
    return any(not output.view for output in CATALOGUE[name].outputs.values())


def on_device(call: dict[str, Any]) -> dict[str, Any]:
    """What ``__call__`` takes, for all cells at once."""

    def one(value):
        if isinstance(value, RowBlocks):
            return jnp.asarray(value.dense())
        if isinstance(value, Edges):
            return jax.tree.map(jnp.asarray, value.block(slice(None)))
        return jax.tree.map(jnp.asarray, value)

    return {name: one(value) for name, value in call.items()}


def leaves(value: Any) -> list[np.ndarray]:
    """Arrays of any output."""
    if sparse.issparse(value):
        return [value.toarray()]
    if isinstance(value, GroupTable):
        return [value.values]
    if isinstance(value, Frame):
        value = {**value.columns, **({} if value.gene is None else {"gene": value.gene})}
    return [np.asarray(leaf) for leaf in jax.tree.leaves(value)]


def assert_bitwise(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        for one, two in zip(leaves(a[name]), leaves(b[name]), strict=True):
            np.testing.assert_array_equal(one, two, err_msg=name)


def assert_close(a: dict[str, Any], b: dict[str, Any], *, rtol: float, atol: float) -> None:
    assert a.keys() == b.keys()
    for name in a:
        for one, two in zip(leaves(a[name]), leaves(b[name]), strict=True):
            if one.dtype.kind not in "biuf":
                np.testing.assert_array_equal(one, two, err_msg=name)
                continue
            scale = np.abs(one[np.isfinite(one)]).max(initial=0) if one.dtype.kind == "f" else 0
            np.testing.assert_allclose(one, two, rtol=rtol, atol=atol * max(scale, 1e-30), err_msg=name)
