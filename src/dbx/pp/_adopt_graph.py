"""Neighbours that scanpy found, and embeddings that Harmony corrected, for ``dbx.adopt``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.metrics import pairwise_distances

from dbx.data.blocks import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.batch.harmony.harmony import Harmony
from dbx.ops.graph.metrics import find_metric
from dbx.ops.graph.neighbors import Neighbors
from dbx.ops.operator import Reference
from dbx.ops.values import Graph
from dbx.program.record.step import Read
from dbx.program.replay.adopt import Adoption
from dbx.program.slots.kinds import KINDS, Request, Value
from dbx.program.slots.slots import Slot, exists, read

SAMPLE = 100
"""Cells whose neighbours are found again."""
EXACT = 1e-3
"""Maximum error of distances and weights, relative to the largest."""
FOUND = 0.9
"""Fraction of the nearest cells that an approximate search must have found."""
MOST_LEVELS = 100
ALIKE = 0.05
"""Maximum root mean square difference from Harmony's result, relative to that of its correction."""


def find_neighbors(adoption: Adoption) -> None:
    """``neighbors``: graphs whose settings are in ``uns``, found again for a sample of cells."""
    for key, about in adoption.adata.uns.items():
        if not isinstance(about, Mapping):
            continue
        keys = [about.get(f"{name}_key") for name in ("distances", "connectivities")]
        if not all(keys) or not isinstance(about.get("params"), Mapping):
            continue
        slots = [Slot("obsp", (str(name),)) for name in keys]
        if all(exists(adoption.adata, s) and adoption.read_of(s)[0].source is None for s in slots):
            reason = _adopt_neighbors(adoption, key, about, *slots)
            if reason is not None:
                adoption.notes.append(f"neighbors in uns[{key!r}] ({reason}).")


def _adopt_neighbors(adoption: Adoption, key: str, about: Mapping[str, Any], dists: Slot, conns: Slot) -> str | None:
    """Record neighbours; otherwise why not."""
    adata, params = adoption.adata, about["params"]
    place = _representation(adata, params)
    if place is None:
        return f"the matrix they were found in, {params.get('use_rep') or 'X_pca'}, is not there"
    values, n_pcs = RowBlocks(read(adata, place)).dense(), params.get("n_pcs")
    metric, options = params.get("metric", "euclidean"), dict(params.get("metric_kwds") or {})
    if not isinstance(metric, str) or find_metric(metric, options) is None:
        return f"dbx has no metric {metric!r}"
    stored = sparse.csr_matrix(adata.obsp[dists.key], dtype=np.float32, copy=True)
    stored.sort_indices()
    reason = _why_not_nearest(values[:, :n_pcs], stored, metric, options)
    if reason is not None:
        return f"{reason} in {place.written()}: it or the cells were changed since"
    operator = Neighbors(
        n_neighbors=int(params.get("n_neighbors", 15)),
        n_pcs=None if n_pcs is None else int(n_pcs),
        metric=metric,
        metric_kwds=tuple(sorted(options.items())),
        method=params.get("method", "umap"),
    )
    weights = _weights(operator, values, stored)
    if not np.isclose(weights, _entries(adata.obsp[conns.key], weights.shape), atol=EXACT).mean() > 1 - EXACT:
        return f"{conns.written()} does not hold the weights of method={operator.method!r}"
    entry, print_ = adoption.read_of(place)
    adoption.record(
        operator,
        {"x": entry},
        {"distances": dists, "connectivities": conns},
        outside={} if print_ is None else {entry.slots[0]: print_},
        places={"x": place},
        constants={
            Slot("uns", (key,)): {"connectivities_key": conns.key, "distances_key": dists.key, "params": params}
        },
    )
    return None


def _representation(adata, params: Mapping[str, Any]) -> Slot | None:
    """The matrix that scanpy takes."""
    named = params.get("use_rep")
    if named is None:
        named = "X" if adata.n_vars <= 50 or params.get("n_pcs") == 0 else "X_pca"
    slot = Slot("X") if named == "X" else Slot("obsm", (named,))
    return slot if exists(adata, slot) else None


def _why_not_nearest(values: np.ndarray, stored: sparse.csr_matrix, metric: str, options: dict[str, Any]) -> str | None:
    """Why stored distances are not those to the nearest cells, None if they are."""
    rows = np.unique(np.linspace(0, len(values) - 1, min(SAMPLE, len(values))).astype(int))
    exact = pairwise_distances(values[rows].astype(np.float64), values.astype(np.float64), metric=metric, **options)
    exact[np.arange(len(rows)), rows] = np.inf
    scale, found = float(exact[np.isfinite(exact)].max(initial=0)), []
    for i, row in enumerate(rows):
        cells, distances = stored[row].indices, stored[row].data
        others = cells != row
        cells, distances = cells[others], distances[others]
        if not np.allclose(distances, exact[i, cells], rtol=EXACT, atol=EXACT * scale):
            return f"the distances of cell {row} are not those"
        if len(cells):
            limit = np.partition(exact[i], len(cells) - 1)[len(cells) - 1]
            found.append((exact[i, cells] <= limit * (1 + EXACT)).mean())
    if not found or np.mean(found) < FOUND:
        return f"only {np.mean(found or [0]):.0%} of the neighbours are the nearest cells"
    return None


def _weights(operator: Neighbors, values: np.ndarray, stored: sparse.csr_matrix) -> np.ndarray:
    """The weights that the step gives the fitted cells, a dense array of a sample of rows."""
    rows = np.arange(len(values), dtype=np.int32)
    graph = Graph.from_csr(stored, rows=rows)
    operator.reference = Reference(jnp.asarray(values))
    operator.reference_distances = Reference(Graph(graph.indices, graph.weights, rows, len(values), distances=True))
    made = apply(operator, {"x": RowBlocks(values), "rows": rows}, len(values))["connectivities"]
    return _entries(made.to_csr(), (min(SAMPLE, len(values)), len(values)))


def _entries(matrix: Any, shape: tuple[int, ...]) -> np.ndarray:
    rows = np.unique(np.linspace(0, matrix.shape[0] - 1, shape[0]).astype(int))
    return sparse.csr_matrix(matrix)[rows].toarray()


def find_harmony(adoption: Adoption) -> None:
    """Harmony: dbx's own, on each categorical column, gives the embedding that is there."""
    adata, target, base = adoption.adata, Slot("obsm", ("X_pca_harmony",)), Slot("obsm", ("X_pca",))
    if not exists(adata, target) or adoption.read_of(target)[0].source is not None:
        return
    said = f"Harmony in {target.written()}"
    if not exists(adata, base) or read(adata, base).shape != read(adata, target).shape:
        adoption.notes.append(f"{said} (there is no {base.written()} of its shape that it could have corrected).")
        return
    columns = [
        str(name)
        for name, column in adata.obs.items()
        if not pd.api.types.is_numeric_dtype(column) and 1 < column.nunique() <= MOST_LEVELS and not column.isna().any()
    ]
    tried: dict[str, float] = {}
    for column in columns:
        operator, keys, tried[column] = _closest(adata, column, base, target)
        if tried[column] <= ALIKE:
            _record_harmony(adoption, operator, keys, column, base, target)
            return
    best = min(tried, key=lambda name: tried[name], default=None)
    seen = (
        "obs has no categorical column of batches"
        if best is None
        else (
            f"dbx's Harmony on obs[{best!r}], the closest, differs by {tried[best]:.0%} of the correction; Harmony "
            "keeps neither its clusters nor its coefficients, which new cells need: run dbx.tl.harmony instead"
        )
    )
    adoption.notes.append(f"{said} ({seen}).")


def _closest(adata, column: str, base: Slot, target: Slot) -> tuple[Harmony, Any, float]:
    """Harmony on one column and its difference from the embedding, relative to the correction; both penalties tried."""
    before, after = (np.asarray(read(adata, slot), np.float64) for slot in (base, target))
    size = np.sqrt(np.square(after - before).mean())
    best: tuple[Harmony, Any, float] | None = None
    for flavor in ("harmony2", "harmony1"):
        operator = Harmony(flavor=flavor)
        keys = KINDS["columns"].read(_request(adata, operator, column))
        inputs = {"x": RowBlocks(before), "batch": keys}
        operator.fit(**inputs)
        made = np.asarray(apply(operator, inputs, len(before))["z"], np.float64)
        error = float(np.sqrt(np.square(made - after).mean()) / max(size, 1e-12))
        if best is None or error < best[2]:
            best = operator, keys, error
        if error <= ALIKE:
            break
    assert best is not None
    return best


def _request(adata, operator: Harmony, column: str) -> Request:
    return Request(
        step=operator.name,
        port=operator.inputs["batch"],
        slots=(Slot("obs", (column,)),),
        values=(Value(adata.obs[column]),),
    )


def _record_harmony(adoption: Adoption, operator: Harmony, keys: Any, column: str, base: Slot, target: Slot) -> None:
    entry, print_ = adoption.read_of(base)
    batch, batch_print = adoption.read_of(Slot("obs", (column,)))
    known = {entry.slots[0]: print_, batch.slots[0]: batch_print}
    reads = {
        "x": entry,
        "batch": Read(slots=batch.slots, source=batch.source, gap=batch.gap, levels={column: keys[column].levels}),
    }
    outside = {slot: found for slot, found in known.items() if found is not None}
    adoption.record(operator, reads, {"z": target}, outside=outside)
