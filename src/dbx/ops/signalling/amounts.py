"""Amounts of ligands and receptors from logarithms of their genes: a complex has that of its scarcest subunit."""

from __future__ import annotations

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import array_library, dense
from dbx.ops.signalling.complexes import Complexes

Subunits = tuple[tuple[int, ...], ...]


def amounts(x, proteins: Subunits):
    """Amounts on the scale of normalised counts, an array of shape (n_cells, n_proteins).

    ``x`` is log1p of them by genes, ``proteins`` the column numbers of the subunits of each protein.
    """
    return array_library(x).expm1(Complexes.of(proteins).least(x))


def amounts_by_blocks(x: RowBlocks, *proteins: Subunits) -> tuple[np.ndarray, ...]:
    """The same for several lists of proteins and all cells, by blocks of rows."""
    found: list[list[np.ndarray]] = [[] for _ in proteins]
    for _, _, rows in x.parts():
        values = np.asarray(dense(rows), x.dtype)
        for into, some in zip(found, proteins, strict=True):
            into.append(amounts(values, some))
    return tuple(np.concatenate(parts) for parts in found)
