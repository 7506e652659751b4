"""Labels and embeddings of reference cells mapped to new cells, with scanpy's signature and keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dbx.program import Slot, SlotError, assign, holder, log
from dbx.tl._ingest import Source, majority, nearest_only

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

SEARCH = ("k", "queue_size", "epsilon", "random_state")
NEW_CELLS = "mapped by the recorded steps of the reference: it is itself a rerun"


def ingest(
    adata: AnnData | MuData,
    adata_ref: AnnData | MuData,
    *,
    obs: str | Iterable[str] | None = None,
    embedding_method: str | Iterable[str] = ("umap", "pca"),
    labeling_method: str | Iterable[str] = "knn",
    neighbors_key: str | None = None,
    inplace: bool = True,
    mod: str | None = None,
    **kwargs: Any,
) -> AnnData | MuData | None:
    """Map labels and embeddings of a reference to new cells: scanpy's call, by :func:`dbx.rerun` and a vote.

    The reference's recorded steps are applied to the new cells, from whatever state they are in; a label is that of
    most of a cell's nearest reference cells. If the reference has no program, what scanpy computed there is adopted on
    a copy (:func:`dbx.adopt`). :func:`scanpy.tl.ingest` instead centres new cells on their own mean, and searches
    neighbours approximately. To keep the steps with the new cells, use :func:`dbx.rerun` and
    :func:`dbx.tl.transfer_labels`.

    Parameters
    ----------
    adata
        The new cells, with the genes that the reference's steps need.
    adata_ref
        The reference, with neighbours; it is not changed.
    obs
        Columns of ``adata_ref.obs`` with labels to map.
    embedding_method
        Embeddings to map, ``"umap"``, ``"pca"`` or both.
    labeling_method
        ``"knn"``, for all columns or for each.
    neighbors_key
        Key of ``adata_ref.uns`` with the neighbours.
    inplace
        Write into ``adata``; otherwise return a copy.
    mod
        Modality of MuData.
    **kwargs
        ``k``, the number of nearest reference cells that vote, by default all recorded neighbours. ``queue_size``,
        ``epsilon`` and ``random_state`` have no effect, as the search is exact.

    Returns
    -------
    None, or the copy with ``inplace=False``. Writes:

    ``obs[obs]``
        The labels, categorical with the categories of the reference.
    ``obsm["X_pca"]``, ``obsm["X_umap"]``, ``obsm["rep"]``
        Positions of the new cells, and their coordinates in what the reference's neighbours were found in.

    Raises
    ------
    SlotError
        The reference has no neighbours, embedding or column of this name.
    ValueError
        The program of the reference cannot be run on the new cells, or ``k`` is not a number of recorded neighbours.
    NotImplementedError
        Another embedding or labelling method.
    TypeError
        An unknown argument.
    """
    columns = _as_list(obs)
    wanted = _checked(_as_list(embedding_method), _as_list(labeling_method), kwargs)
    new, reference = holder(adata, Slot("obs", mod=mod)), holder(adata_ref, Slot("obs", mod=mod))
    source = Source.of(reference, neighbors_key, wanted)
    missing = [name for name in columns if name not in reference.obs]
    if missing:
        msg = f"adata_ref.obs has no column {_listed(missing)}; it has {_listed(reference.obs)}."
        raise SlotError(msg)
    found = source.mapped(new, wanted)
    values: dict[Slot, Any] = {Slot("obsm", (key,), mod): value for key, value in found.embeddings.items()}
    if columns:
        nearest = nearest_only(found.distances, kwargs.get("k"))
        for name in columns:
            values[Slot("obs", (name,), mod)] = majority(nearest, reference.obs[name])
    data = adata if inplace else adata.copy()
    assign(data, values)
    log.hint("added\n" + "\n".join(f"    {slot.written()}" for slot in values))
    return None if inplace else data


def _as_list(value: str | Iterable[str] | None) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _checked(embeddings: list[str], labelling: list[str], kwargs: Mapping[str, Any]) -> list[str]:
    if wrong := [name for name in embeddings if name not in ("umap", "pca")]:
        msg = f"embedding_method must be 'umap' or 'pca'; got {_listed(wrong)}."
        raise NotImplementedError(msg)
    if wrong := [name for name in labelling if name != "knn"]:
        msg = f"labeling_method must be 'knn'; got {_listed(wrong)}."
        raise NotImplementedError(msg)
    if wrong := [name for name in kwargs if name not in SEARCH]:
        msg = f"ingest does not take {', '.join(wrong)}; further arguments are {', '.join(SEARCH)}."
        raise TypeError(msg)
    return embeddings


def _listed(names: Iterable) -> str:
    return ", ".join(map(repr, names))
