"""Groups of cells as scanpy's functions take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from dbx.ops.checks import listed
from dbx.program import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def check_groups(
    data: AnnData | MuData, columns: Sequence[str], step: str, mod: str | None, *, groups: int = 1, cells: int = 1
) -> None:
    """Refuse columns of ``obs`` that do not hold enough groups, or groups of too few cells.

    Raises
    ------
    ValueError
        A column has numbers, or there are too few groups, or too few cells in one.
    """
    slots = [Slot("obs", (name,), mod) for name in columns]
    for slot in slots:
        column = read(data, slot)
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            where = slot.written()
            msg = f"{step} needs groups, but {where} is {column.dtype}. Make it {where}.astype('category')."
            raise ValueError(msg)
    sizes = pd.concat([read(data, slot).astype(object) for slot in slots], axis=1).value_counts()
    where = " and ".join(slot.written() for slot in slots)
    if len(sizes) < groups:
        msg = f"{step} needs at least {groups} group{'s' if groups > 1 else ''}; {where} has {len(sizes)}."
        raise ValueError(msg)
    if (sizes < cells).any():
        few = listed(" ".join(map(str, names)) for names in sizes.index[sizes < cells])
        msg = f"{step} needs at least {cells} cells in each group; {where} has fewer in {few}. Merge or remove these."
        raise ValueError(msg)
