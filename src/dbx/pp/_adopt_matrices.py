"""The matrices that scanpy may have computed a result from: what the data hold, and what recorded steps wrote."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from dbx.pp._adopt_checks import gene_means
from dbx.program.record.step import Read
from dbx.program.replay.adopt import Adoption
from dbx.program.replay.plan import Version
from dbx.program.slots.slots import Slot, exists, gene_names, read


class Matrix(NamedTuple):
    """A matrix of cells by the genes of ``var``."""

    values: Any
    read: Read
    """What a step that was computed from it reads."""
    outside: dict[Slot, np.ndarray]
    """Its fingerprint, where no step wrote it."""
    place: Slot | None
    """Where it is; None if it was computed again."""


def matrices(adoption: Adoption) -> Iterator[Matrix]:
    """X, the layers and raw, and then versions of X that were overwritten since."""
    adata, seen = adoption.adata, set()
    layers = [Slot("layers", (name,)) for name in adata.layers if name is not None]
    for slot in [Slot("X"), *layers, Slot("raw", ("X",))]:
        if exists(adata, slot) and gene_names(adata, slot).equals(adata.var_names):
            entry, print_ = adoption.read_of(slot)
            seen.add((entry.slots[0], entry.source))
            yield Matrix(read(adata, slot), entry, {} if print_ is None else {entry.slots[0]: print_}, slot)
    for step in list(adoption.registry):
        for slot in step.writes.values():
            if slot.is_gene_matrix and (slot, step.id) not in seen and slot.mod is None:
                values = rewritten(adoption, slot, step.id)
                if values is not None:
                    content = step.content.get(slot)
                    yield Matrix(values, Read(slots=(slot,), source=step.id, content=content), {}, None)


def rewritten(adoption: Adoption, slot: Slot, writer: int | None) -> Any | None:
    """What a step wrote, or the program started from, in the genes of the data; None if it is gone."""
    try:
        values, genes = adoption.values_of(Version(slot, writer))
    except (ValueError, LookupError):
        return None
    names = gene_names(adoption.adata, slot)
    if genes is None or genes.equals(names):
        return values
    columns = pd.Index(genes).get_indexer(names)
    return None if (columns < 0).any() else values[:, columns]


def made_these_means(values: Any, means: np.ndarray) -> bool:
    """Whether means of genes, as ``highly_variable_genes`` keeps them, are those of a matrix."""
    if looks_negative(values):
        return False
    plain = gene_means(values)
    with np.errstate(over="ignore"):
        back = gene_means(values.expm1() if sparse.issparse(values) else np.expm1(np.asarray(values, np.float64)))
    return any(
        np.isfinite(found).all() and np.allclose(found, means, rtol=1e-3, atol=1e-6)
        for found in (plain, back, np.log1p(back))
    )


def looks_negative(values: Any) -> bool:
    """Whether there are values below zero."""
    stored = values.data if sparse.issparse(values) else np.asarray(values)
    return bool(stored.size and stored.min() < 0)
