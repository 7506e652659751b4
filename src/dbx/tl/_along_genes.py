"""Where genes are: their chromosomes and their order in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.program import Slot, holder, read

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

LETTERS = frozenset({"X", "Y", "M", "MT"})
"""Chromosomes without a number."""


def along_genes(
    adata: AnnData | MuData, chromosome_key: str, mod: str | None, *, exclude: Sequence[str] = ()
) -> tuple[tuple[int, ...], tuple[float, ...] | None]:
    """Number of the chromosome of each gene, -1 without one, and ``var["start"]``, None if there is no such column.

    Raises
    ------
    KeyError
        There is no column with chromosomes.
    ValueError
        No gene has a chromosome, some names have chr and others not, or starts are not numbers.
    """
    slot = Slot("var", (chromosome_key,), mod)
    column = pd.Series(read(adata, slot)).astype(object)
    names = column.dropna().astype(str)
    _check_one_kind(set(names), slot)
    kept = names[~names.map(_plain).isin(list(map(_plain, exclude)))]
    if kept.empty:
        msg = f"There is no gene with a chromosome in {slot.written()}{' that is not excluded' if len(names) else ''}."
        raise ValueError(msg)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(kept))}
    codes = column.map(lambda name: -1 if pd.isna(name) else numbers.get(str(name), -1)).to_numpy(int)
    return tuple(codes.tolist()), _starts(adata, slot, codes)


def _plain(name: str) -> str:
    """The name without chr; M is MT."""
    plain = name.removeprefix("chr")
    return "MT" if plain == "M" else plain


def _check_one_kind(names: set[str], slot: Slot) -> None:
    """Refuse names of which some have chr and others not; of scaffolds without a number it does not matter."""
    prefixed = sorted(name for name in names if name.startswith("chr"))
    bare = sorted(name for name in names if name.isdecimal() or name in LETTERS or "chr" + name in names)
    if prefixed and bare:
        msg = (
            f"{slot.written()} has names of chromosomes both with and without 'chr', such as {prefixed[0]!r} and "
            f"{bare[0]!r}: give all of them one kind of name, {slot.written()}.str.removeprefix('chr')."
        )
        raise ValueError(msg)


def _starts(adata: AnnData | MuData, slot: Slot, codes: np.ndarray) -> tuple[float, ...] | None:
    place = Slot("var", ("start",), slot.mod)
    if "start" not in holder(adata, slot).var:
        return None
    starts = read(adata, place)
    if not pd.api.types.is_numeric_dtype(starts):
        msg = f"{place.written()} must be numbers; it is {starts.dtype}. Convert it: pd.to_numeric."
        raise ValueError(msg)
    values = starts.to_numpy(np.float64, na_value=np.nan)
    if np.isnan(values[codes >= 0]).any():
        msg = f"{place.written()} is missing for genes with a chromosome: fill it, or remove their chromosome."
        raise ValueError(msg)
    return tuple(np.nan_to_num(values).tolist())
