"""What the functions of velocity share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.ops.checks import UnknownNameError, as_names, listed
from dbx.program import Slot, gene_names, holder, owner_written, read

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def used_genes(
    data: AnnData | MuData, vkey: str, subset: Sequence[str] | None = None, *, mod: str | None = None
) -> np.ndarray:
    """Genes whose velocities are used and known in every cell, an array of shape (n_genes,), bool.

    Raises
    ------
    ValueError
        There are fewer than two.
    """
    layer = Slot("layers", (vkey,), mod)
    velocity = read(data, layer)
    used = np.asarray(read(data, Slot("var", (f"{vkey}_genes",), mod)), bool)
    used = used & np.isfinite(np.asarray(velocity.sum(axis=0), np.float64)).ravel()
    if subset is not None:
        used = used & _among(gene_names(data, layer), subset)
    if used.sum() < 2:
        msg = (
            f"Only {int(used.sum())} genes have velocities that are used ({layer.written()} without NaN, and "
            f"{Slot('var', (f'{vkey}_genes',), mod).written()}); at least 2 are needed."
        )
        raise ValueError(msg)
    return used


def _among(names, subset: Sequence[str]) -> np.ndarray:
    wanted = as_names(subset, "gene_subset")
    unknown = [name for name in wanted if name not in names]
    if unknown:
        msg = f"gene_subset has {listed(unknown)}, which are not among the genes."
        raise UnknownNameError(msg)
    return np.asarray(names.isin(wanted))


def terminal_slots(
    data: AnnData | MuData, root_key: str | None, end_key: str | None, mod: str | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings that name root and end as cells, and slots of those that are columns."""
    owner = holder(data, Slot("obs", mod=mod))
    settings, reads = {}, {}
    for name, key in (("root", root_key), ("end", end_key)):
        if key is None:
            continue
        if key in owner.obs:
            reads[name] = f"obs/{key}"
        elif key in owner.obs_names:
            settings[f"{name}_cell"] = int(owner.obs_names.get_loc(key))
        else:
            msg = (
                f"{name}_key={key!r} is neither a column of {owner_written(mod)}.obs, which has "
                f"{listed(owner.obs) or 'none'}, nor the name of a cell."
            )
            raise UnknownNameError(msg)
    return settings, reads
