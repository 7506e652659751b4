"""Labels of reference cells, transferred to new cells that were mapped to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from dbx.ops.graph.vote import counted_votes
from dbx.ops.values import Codes, Edges
from dbx.program import Slot, SlotError, as_codes, assign, check_key, exists, holder, log, read
from dbx.program.compat import own_copy
from dbx.program.record.prints import known_rows
from dbx.program.record.registry import load
from dbx.program.replay.reference import cells_digest

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

GRAPH = "obsm/reference_connectivities"


def transfer_labels(
    adata: AnnData | MuData,
    reference: AnnData | MuData,
    key: str,
    *,
    key_added: str | None = None,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Label new cells by a weighted vote of their nearest reference cells.

    The neighbours are those found by :func:`dbx.rerun`, and a label's share of the vote is its fraction of the edge
    weight (Cover and Hart, IEEE Transactions on Information Theory, 1967); :func:`scanpy.tl.ingest` counts neighbours
    without weights.

    Parameters
    ----------
    adata
        The new cells, after ``dbx.rerun(adata, reference)`` with a program that has neighbours.
    reference
        The reference cells, unchanged since.
    key
        Column of ``reference.obs`` with the labels. Cells without a label do not vote.
    key_added
        Column to write, ``key`` by default.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData to work on.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obs[key_added]``
        Label of each cell, categorical with the reference's categories; missing where no neighbour has a label.
    ``obs[f"{key_added}_probability"]``
        Fraction of this label in the cell's edge weight to labelled cells, float32; 0 where no neighbour has a label.

    Raises
    ------
    SlotError
        There are no edges to a reference in ``adata``, or no column ``key`` in ``reference``.
    ValueError
        ``reference`` does not have the cells that the edges lead to, or none of them has a label.
    """
    check_key(key_added)
    graph = _edges(adata, reference, mod)
    slot = Slot.parse(f"obs/{key}", mod)
    labels = as_codes(read(reference, slot).astype("category"))
    if not labels.levels:
        msg = (
            f"{slot.written('reference')} has no label, all {len(labels.codes)} values are missing: was it merged by "
            "the wrong index?"
        )
        raise ValueError(msg)
    votes = counted_votes(graph.matrix, labels)
    best, found = votes.argmax(axis=1), votes.any(axis=1)
    data = own_copy(adata, copy=copy)
    key_added = key_added or key
    values = {
        Slot("obs", (key_added,), mod): Codes(np.where(found, best, -1), labels.levels),
        Slot("obs", (f"{key_added}_probability",), mod): votes.max(axis=1),
    }
    assign(data, values)
    log.hint("added\n" + "\n".join(f"    {slot.written()}" for slot in values))
    return data if copy else None


def _edges(adata, reference, mod: str | None) -> Edges:
    slot = Slot.parse(GRAPH, mod)
    if not exists(adata, slot):
        msg = f"{slot.written()} is missing: place the new cells first, dbx.rerun(adata, reference)."
        raise SlotError(msg)
    matrix = sparse.csr_matrix(read(adata, slot))
    if matrix.shape[0] == 0:
        msg = f"{slot.written()} is empty: 0 cells x {matrix.shape[1]} reference cells."
        raise ValueError(msg)
    n_reference = holder(reference, Slot("obs", mod=mod)).n_obs
    if matrix.shape[1] != n_reference:
        msg = (
            f"{slot.written()} leads to {matrix.shape[1]} reference cells, but reference has {n_reference}: "
            "pass the unchanged reference of dbx.rerun(adata, reference), or rerun."
        )
        raise ValueError(msg)
    _check_same_cells(adata, reference, slot)
    return Edges(matrix, np.full(matrix.shape[0], -1, np.int32))


def _check_same_cells(adata, reference, slot: Slot) -> None:
    """Compare the reference with the digests of its cells stored by the rerun: same cells, order and values."""
    names = Slot.parse("uns/reference_cells", slot.mod)
    if exists(adata, names) and read(adata, names) != cells_digest(reference, slot.mod):
        msg = (
            f"The cells of reference are not those that {slot.written()} leads to, or in another order: "
            "dbx.rerun(adata, reference) again."
        )
        raise ValueError(msg)
    step = load(adata).writer(slot)
    if step is None:
        return
    for there in step.references.values():
        if there in step.digests and exists(reference, there):
            other = ~known_rows(reference, there, read(reference, there), step.digests[there])
            if other.any():
                msg = (
                    f"{int(other.sum())} cells of reference are not those that {slot.written()} "
                    f"leads to, or {there.written('reference')} was changed since: dbx.rerun(adata, reference) again."
                )
                raise ValueError(msg)
