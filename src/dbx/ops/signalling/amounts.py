"""Amounts of ligands and receptors from logarithms of their genes: a complex has that of its scarcest subunit."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import array_library

Subunits = tuple[tuple[int, ...], ...]


def amounts(x, proteins: Subunits):
    """Amounts on the scale of normalised counts, an array of shape (n_cells, n_proteins).

    ``x`` is log1p of them by genes, ``proteins`` the column numbers of the subunits of each protein.
    """
    xp = array_library(x)
    most = max(map(len, proteins))
    columns = np.array([subunits + subunits[:1] * (most - len(subunits)) for subunits in proteins])
    return xp.expm1(reduce(xp.minimum, (x[:, of] for of in columns.T)))


def as_dense(rows: Any) -> np.ndarray:
    """Rows of a dense or sparse block as a dense array."""
    return rows.toarray() if sparse.issparse(rows) else np.asarray(rows)


def amounts_by_blocks(x: RowBlocks, *proteins: Subunits) -> tuple[np.ndarray, ...]:
    """The same for several lists of proteins and all cells, by blocks of rows."""
    found: list[list[np.ndarray]] = [[] for _ in proteins]
    for _, _, rows in x.parts():
        dense = np.asarray(as_dense(rows), x.dtype)
        for into, some in zip(found, proteins, strict=True):
            into.append(amounts(dense, some))
    return tuple(np.concatenate(parts) for parts in found)
