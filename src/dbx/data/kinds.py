"""Kinds of arrays, recognised without importing their libraries."""

from __future__ import annotations

import numpy as np
from scipy import sparse

READ_BYTES = 2**17
"""Bytes below which latency dominates a disk read."""


def is_dask(x) -> bool:
    """A dask array."""
    return type(x).__module__.startswith("dask.")


def is_sparse_dask(x) -> bool:
    """A dask array of sparse chunks."""
    return is_dask(x) and sparse.issparse(getattr(x, "_meta", None))


def is_sparse_on_disk(x) -> bool:
    """An anndata sparse dataset (backed h5ad or zarr)."""
    # of the class: an attribute of a pandas object would be looked up among a million names of rows
    return hasattr(type(x), "to_memory") and hasattr(x, "format") and not sparse.issparse(x)


def is_backed(x) -> bool:
    """An array on disk (h5ad or zarr)."""
    return is_sparse_on_disk(x) or type(x).__module__.startswith(("h5py", "zarr"))


def readable(x):
    """The array itself where its rows can be read directly, canonical CSR for other sparse formats, else NumPy."""
    if is_sparse_on_disk(x) and x.format != "csr":
        x = x.to_memory()
    if sparse.issparse(x):
        return canonical(x)
    if not (is_dask(x) or is_backed(x)):
        x = np.asarray(x)
    _check(x)
    return x


def canonical(x):
    """CSR with sorted indices and without duplicates or anndata's view classes; the argument is never changed."""
    kind = sparse.csr_array if isinstance(x, sparse.sparray) else sparse.csr_matrix
    _check(x)
    csr = x.tocsr()
    if type(csr) is not kind:
        csr = kind((csr.data, csr.indices, csr.indptr), shape=csr.shape)
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    return csr


def _check(x) -> None:
    if len(x.shape) != 2:
        msg = f"A matrix must have two dimensions, rows and columns; got shape {tuple(x.shape)}."
        raise ValueError(msg)
    if any(n != n for n in x.shape):
        msg = "The dask array has an unknown number of rows; call x.compute_chunk_sizes() first."
        raise ValueError(msg)
    if x.dtype.kind not in "biuf":
        msg = f"A matrix must have real numbers; got dtype {x.dtype}."
        raise TypeError(msg)


def chunk_edges(x, most_bytes: int) -> np.ndarray | None:
    """Row numbers at which stored chunks end; None where rows are read at no extra cost or chunks are too large."""
    if is_dask(x):
        return np.cumsum(x.chunks[0])
    chunks = None if is_sparse_on_disk(x) else getattr(x, "chunks", None)
    if not chunks or not is_backed(x) or chunks[0] * x.shape[1] * x.dtype.itemsize > most_bytes:
        return None
    return np.minimum(np.arange(chunks[0], x.shape[0] + chunks[0], chunks[0]), x.shape[0])


def rows_read_at_once(x, most_bytes: int) -> tuple[int, int]:
    """For an array on disk, the rows below which latency dominates a read, and the rows that fit ``most_bytes``."""
    stored, row_length = x, x.shape[1]
    if is_sparse_on_disk(x):
        stored = x.group["data"]
        row_length = stored.shape[0] / max(x.shape[0], 1)
    itemsize, row_length = stored.dtype.itemsize, max(row_length, 1)
    most = max(int(most_bytes / (row_length * (itemsize + 4))), 1)
    if not stored.chunks:
        at_once = READ_BYTES / (row_length * itemsize)
    else:  # chunks are read and decompressed as a whole
        at_once = stored.chunks[0] / (row_length if is_sparse_on_disk(x) else 1)
    return min(int(at_once), most), most
