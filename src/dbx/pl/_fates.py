"""Fate probabilities as :func:`dbx.tl.fate_probabilities` leaves them, by the names of terminal states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.ops.checks import UnknownNameError, as_names, listed
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData


def read_fates(adata: AnnData, states: str | Sequence[str] | None, key: str) -> tuple[pd.DataFrame, pd.Series]:
    """Probability of each terminal state asked for, a column each, and the terminal state of each cell.

    Raises
    ------
    KeyError
        There are no fate probabilities, or no such state.
    ValueError
        The states are not those of the probabilities.
    """
    fates = np.asarray(read(adata, Slot("obsm", (f"lineages_{key}",))), float)
    ends = read(adata, Slot("obs", (f"term_states_{key}",))).astype("category")
    names = list(ends.cat.categories.astype(str))
    if len(names) != fates.shape[1]:
        msg = (
            f"obsm['lineages_{key}'] has {fates.shape[1]} columns, but obs['term_states_{key}'] has {len(names)} "
            "categories: run dbx.tl.fate_probabilities again."
        )
        raise ValueError(msg)
    chosen = names if states is None else as_names(states, "states")
    unknown = [name for name in chosen if name not in names]
    if unknown:
        msg = f"There is no terminal state {listed(unknown)}; there are {listed(names)}."
        raise UnknownNameError(msg)
    return pd.DataFrame(fates, index=adata.obs_names, columns=names)[chosen], ends
