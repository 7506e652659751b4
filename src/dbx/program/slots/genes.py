"""Genes found by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd


def gene_columns(
    present: pd.Index, wanted: Sequence[str] | pd.Index | np.ndarray, step: str, missing_genes: str
) -> np.ndarray | None:
    """Column of each wanted gene, -1 for a missing one; None where the genes are the same in the same order.

    Raises
    ------
    ValueError
        Wanted genes are missing, or stand there twice.
    """
    wanted = pd.Index(wanted)
    if len(present) == len(wanted) and (present == wanted).all():
        return None
    twice = present[present.duplicated()].intersection(wanted)
    if len(twice):
        msg = (
            f"Step {step!r} needs genes that the data have more than once: {some_of(twice)}. Make names unique "
            "(adata.var_names_make_unique()) or drop the extra columns."
        )
        raise ValueError(msg)
    columns = pd.Index(present).drop_duplicates().get_indexer(wanted)
    if present.has_duplicates:
        first = np.flatnonzero(~present.duplicated())
        columns = np.where(columns < 0, -1, first[columns])
    missing = wanted[columns < 0]
    if len(missing) and missing_genes != "zero":
        msg = (
            f"Step {step!r} needs {len(wanted)} genes, of which the data lack {len(missing)}: {some_of(missing)}. "
            'Name genes as the reference does, or count missing ones as zero: missing_genes="zero".'
        )
        raise ValueError(msg)
    if len(missing) == len(wanted):
        msg = f"The data have none of the {len(wanted)} genes of step {step!r}: are names others ({some_of(present)})?"
        raise ValueError(msg)
    return columns


def gene_array(names: pd.Index | np.ndarray) -> np.ndarray:
    """Gene names as h5ad and zarr both keep them."""
    return np.array([str(name) for name in names.tolist()], dtype=object)


def some_of(names: Iterable, count: int = 5) -> str:
    """The first few names, for messages."""
    names = list(map(str, names))
    return ", ".join(names[:count]) + (" ..." if len(names) > count else "")
