"""Counts written to a file as they are simulated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
from scipy import sparse

Blocks = Iterable[Mapping[str, sparse.csr_matrix]]
BLOCKS_AT_ONCE = 64
"""Blocks that are joined before they are written."""


def on_disk(adata: ad.AnnData, blocks: Blocks, filename: Path) -> ad.AnnData:
    """Write an AnnData without matrices and then X, and layers under their names, by blocks of cells."""
    adata.write_h5ad(filename)
    wide = adata.n_obs * adata.n_vars > np.iinfo(np.int32).max
    with h5py.File(filename, "r+") as file:
        for name, rows in _joined(blocks):
            place = name if name == "X" else f"layers/{name}"
            if isinstance(file.get(place), h5py.Group):
                ad.io.sparse_dataset(file[place]).append(rows)
                continue
            rows.indptr = rows.indptr.astype(np.int64 if wide else np.int32)  # later blocks may need it
            group, _, key = place.rpartition("/")
            ad.io.write_elem(file[group] if group else file, key, rows)
    return ad.read_h5ad(filename, backed="r+")


def _joined(blocks: Blocks) -> Iterator[tuple[str, sparse.csr_matrix]]:
    blocks = iter(blocks)
    while some := list(islice(blocks, BLOCKS_AT_ONCE)):
        for name in some[0]:
            yield name, sparse.vstack([block[name] for block in some], format="csr")
