"""Run a fitted operator over host data by blocks of rows: one compilation, bounded memory."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx
from scipy import sparse

from dbx.data.blocks import RowBlocks, block_rows, is_dask
from dbx.ops.operator import Operator
from dbx.ops.values import Codes, Edges, Graph, HostValue, Whole


@partial(jax.jit, static_argnums=0)
def call(graphdef, state, inputs: dict[str, Any]) -> dict[str, Any]:
    """An operator's ``__call__`` compiled once for each configuration and block shape."""
    return nnx.merge(graphdef, state)(**inputs)


def apply(operator: Operator, inputs: Mapping[str, Any], n_rows: int) -> dict[str, Any]:
    """Outputs of a fitted operator for all rows, as host values: NumPy or CSR matrices, Graph, Codes.

    ``inputs`` holds RowBlocks for a matrix, Edges for a graph, and host Codes, arrays or dicts of them for the rest.
    A lazy dask matrix gives lazy outputs where the operator works row by row.
    """
    if all(output.view for output in operator.outputs.values()):
        return {}
    lazy = next((x for x in inputs.values() if isinstance(x, RowBlocks) and is_dask(x.source)), None)
    if lazy is not None and operator.rowwise and len(inputs) == 1 and _may_stay_lazy(operator):
        return _apply_lazily(operator, next(iter(inputs)), lazy)
    if operator.host or (operator.sparse and any(isinstance(x, RowBlocks) and x.is_sparse for x in inputs.values())):
        return _collect(_host_parts(operator, inputs, n_rows), n_rows)
    if (found := operator.on_host(inputs)) is not None:
        return found
    return _collect(_dense_parts(operator, operator.prepared(inputs), n_rows), n_rows)


def _may_stay_lazy(operator: Operator) -> bool:
    """Whether no output holds labels: those are not arrays and are computed at once, block by block."""
    return all(output.dtype != "category" for output in operator.outputs.values())


def _host_parts(operator, inputs, n_rows):
    """Outputs of NumPy or CSR blocks in their own dtype; nothing is compiled."""
    if not operator.sparse:
        inputs = {name: in_own_dtype(x) if isinstance(x, RowBlocks) else x for name, x in inputs.items()}
    sources = [x.source for x in inputs.values() if isinstance(x, RowBlocks)]
    whole = operator.in_pieces and all(isinstance(s, np.ndarray) or sparse.issparse(s) for s in sources)
    if whole or not operator.rowwise or (operator.sparse and all(map(sparse.issparse, sources))):
        size = n_rows
    elif all(sparse.issparse(source) or isinstance(source, np.ndarray) for source in sources):
        size = (1 << 20) // max((source.shape[1] for source in sources), default=64) + 1
    else:
        size = 1 << 14
    for start in range(0, n_rows, max(size, 1)):
        stop = min(start + size, n_rows)
        # a whole matrix is not copied
        index = slice(start, stop) if size < n_rows else slice(None)
        read = RowBlocks.rows if operator.sparse or whole else RowBlocks.dense
        part = {name: read(x, index) if isinstance(x, RowBlocks) else take(x, index) for name, x in inputs.items()}
        yield start, stop, operator(**part)


def in_own_dtype(x: RowBlocks) -> RowBlocks:
    """A matrix to be read in its own dtype, whole numbers as float32."""
    return RowBlocks(x, dtype=x.source.dtype if x.source.dtype.kind == "f" else np.float32)


def _dense_parts(operator, inputs, n_rows):
    graphdef, state = nnx.split(operator)
    widest = max((x.n_columns for x in inputs.values() if isinstance(x, RowBlocks)), default=64)
    size = block_rows(n_rows, widest) if operator.rowwise else n_rows
    precise = jax.enable_x64(True) if operator.precision == "float64" else contextlib.nullcontext()
    with precise:
        for start in range(0, n_rows, max(size, 1)):
            stop = min(start + size, n_rows)
            part = {name: _padded(x, slice(start, stop), size) for name, x in inputs.items()}
            outputs = jax.device_get(call(graphdef, state, part))
            yield start, stop, {name: take(x, slice(0, stop - start)) for name, x in outputs.items()}


def _padded(x, index: slice, size: int):
    part = device_rows(x, index)
    missing = size - (index.stop - index.start)
    if missing == 0 or isinstance(x, Whole):
        return part
    return jax.tree.map(lambda leaf: np.pad(leaf, [(0, missing)] + [(0, 0)] * (np.ndim(leaf) - 1)), part)


def device_rows(x, index: slice | np.ndarray):
    """Rows of a host value in the form that goes to a device."""
    return x.block(index) if isinstance(x, HostValue) else take(x, index)


def take(x, index):
    """Rows of any value that flows between operators."""
    if isinstance(x, RowBlocks):
        return RowBlocks(x.rows(index), dtype=x.dtype)
    if sparse.issparse(x) or isinstance(x, Edges):
        return x[index]
    return jax.tree.map(lambda leaf: leaf[index], x)


def _collect(parts, n_rows: int) -> dict[str, Any]:
    """Join blocks; dense outputs are written into one array, so that they are never in memory twice."""
    whole: dict[str, Any] = {}
    for start, stop, outputs in parts:
        for name, part in outputs.items():
            if stop - start == n_rows:
                whole[name] = jax.tree.map(_owned, part)
            elif sparse.issparse(part) or isinstance(part, Edges):
                whole.setdefault(name, []).append(part)
            elif isinstance(part, Graph) and not (part.symmetric or part.distances):
                # each block is as wide as its own cells need
                whole.setdefault(name, []).append(Edges(part.to_csr(), np.asarray(part.rows)))
            else:
                if name not in whole:
                    whole[name] = jax.tree.map(lambda leaf: np.empty((n_rows, *leaf.shape[1:]), leaf.dtype), part)
                jax.tree.map(partial(_fill, start, stop), whole[name], part)
    return {name: _joined(x) if isinstance(x, list) else x for name, x in whole.items()}


def _joined(parts: list[Any]):
    """Consecutive rows of a CSR matrix or a graph on the host."""
    return Edges.join(parts) if isinstance(parts[0], Edges) else sparse.vstack(parts, format="csr")


def _owned(leaf):
    """A writeable copy of an output, which JAX returns as a read-only view of the padded block."""
    return leaf.copy() if isinstance(leaf, np.ndarray) and not leaf.flags.writeable else leaf


def _fill(start: int, stop: int, target: np.ndarray, part: np.ndarray) -> None:
    target[start:stop] = part


def _apply_lazily(operator: Operator, name: str, blocks: RowBlocks) -> dict[str, Any]:
    """Outputs as lazy dask arrays, block by block of the input's own row chunks."""
    source = blocks.source if blocks.columns is None else blocks.source[:, blocks.columns]
    source = source.rechunk((source.chunks[0], -1))
    lengths = source.chunks[0]
    sample = apply(operator, {name: RowBlocks(source[: min(2, lengths[0])].compute())}, min(2, lengths[0]))
    lazy = {}
    for output, value in sample.items():
        if isinstance(value, Graph | Codes):
            msg = f"{operator.name} returns {type(value).__name__}, which cannot be lazy; load the dask array first."
            raise NotImplementedError(msg)

        def run(part, output=output):
            return apply(operator, {name: RowBlocks(part)}, part.shape[0])[output]

        chunks = (lengths, (value.shape[1],)) if value.ndim == 2 else (lengths,)
        lazy[output] = source.map_blocks(
            run,
            chunks=chunks,
            drop_axis=None if value.ndim == 2 else 1,
            meta=value[:0] if value.ndim == 2 else np.empty(0, value.dtype),
        )
    return lazy
