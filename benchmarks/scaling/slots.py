"""Single slots of an h5ad file, so that a step holds no more than it needs."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import h5py

TABLES = ("obs", "var", "uns")


def read(file: Path, slots: tuple[str, ...]) -> ad.AnnData:
    """Cells with the tables and the given slots."""
    with h5py.File(file) as stored:
        values = {name: ad.io.read_elem(stored[name]) for name in (*TABLES, *slots)}
    adata = ad.AnnData(**{name: values.pop(name) for name in ("X", *TABLES) if name in values})
    for slot in list(values):
        place, _, key = slot.partition("/")
        getattr(adata, place)[key] = values.pop(slot)
    return adata


def write(file: Path, adata: ad.AnnData, slots: tuple[str, ...]) -> None:
    """Replace the tables and the given slots."""
    with h5py.File(file, "a") as stored:
        for slot in (*TABLES, *slots):
            place, _, key = slot.partition("/")
            value = getattr(adata, place)
            if slot in stored:
                del stored[slot]
            ad.io.write_elem(stored, slot, value[key] if key else value)
