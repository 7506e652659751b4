"""Removing the cells and genes that do not pass a filter."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import sparse

from dbx.data.csr import with_columns
from dbx.ops.operator import Operator
from dbx.program.slots.slots import Slot, holder

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


class Passing(NamedTuple):
    """Which cells and which genes pass, boolean arrays; None where there is no filter of them."""

    cells: np.ndarray | None
    genes: np.ndarray | None


class Drawn(NamedTuple):
    """Numbers of the cells and of the genes that are kept, in their new order; None for all."""

    cells: np.ndarray | None
    genes: np.ndarray | None


def passing(operator: Operator, outputs: Mapping[str, Any]) -> Passing:
    """What passes an operator, by its outputs that are declared ``passes``."""
    found: dict[str, np.ndarray] = {}
    for name, declared in operator.outputs.items():
        if declared.passes and name in outputs:
            found[declared.axis] = found.get(declared.axis, True) & np.asarray(outputs[name], bool)
    return Passing(found.get("cells"), found.get("genes"))


def check_removable(data: AnnData | MuData, mod: str | None) -> None:
    """Refuse to remove cells or genes of data on disk."""
    owner = holder(data, Slot("X", mod=mod))
    if getattr(owner, "isbacked", False):
        msg = (
            f"Cells and genes of data on disk ({owner.filename}) cannot be removed. Load them first: adata = "
            "adata.to_memory(); or pass inplace=False to get the mask."
        )
        raise NotImplementedError(msg)


def remove(data: AnnData | MuData, mod: str | None, kept: Passing, step: str) -> None:
    """Keep only the cells and genes that pass, in place.

    Raises
    ------
    ValueError
        None pass.
    """
    for mask, what in ((kept.cells, "cell"), (kept.genes, "gene")):
        if mask is not None and not mask.any():
            msg = f"No {what} of {len(mask)} passes {step!r}: change its threshold. Nothing was removed."
            raise ValueError(msg)
    cells, genes = (None if mask is None or mask.all() else mask for mask in kept)
    keep(data, mod, Drawn(cells, genes))


def keep(data: AnnData | MuData, mod: str | None, kept: Passing | Drawn) -> None:
    """Keep only some cells and genes, in place; masks or numbers."""
    owner = holder(data, Slot("X", mod=mod))
    if kept.cells is None and kept.genes is None:
        return
    cells, genes = (slice(None) if index is None else index for index in kept)
    owner._init_as_actual(_part(owner, cells, genes))
    if owner is not data:
        _update(data)


def _part(owner: AnnData, cells: Any, genes: Any) -> AnnData:
    """Some cells and genes as an AnnData of its own, with the same ``uns``.

    The copy of a view would copy the matrix twice and ``uns`` once.
    """
    x, uns = owner.X, owner.uns
    if owner.is_view or not (type(x) is np.ndarray or (sparse.issparse(x) and x.format == "csr")):
        return owner[cells, genes].copy()
    try:
        owner.X, owner.uns = None, {}
        part = owner[cells, genes].copy()
    finally:
        owner.X, owner.uns = x, uns
    part.X, part.uns = _taken(x, cells, genes), uns
    return part


def _taken(x: Any, cells: Any, genes: Any) -> Any:
    """Rows and columns of a matrix in memory, a copy."""
    rows = x if isinstance(cells, slice) else x[cells]
    if isinstance(genes, slice):
        return rows
    if sparse.issparse(x) and genes.dtype == bool:
        return with_columns(rows, genes)
    return rows[:, genes]


def _update(mdata: MuData) -> None:
    """Bring the names of a MuData up to date with those of its modalities, and nothing else."""
    import mudata

    older = hasattr(mudata, "set_options")  # newer versions never pull columns in an update
    with mudata.set_options(pull_on_update=False) if older else contextlib.nullcontext():
        mdata.update()
