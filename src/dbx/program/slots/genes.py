"""Genes found by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from dbx.program import log


def gene_columns(
    present: pd.Index,
    wanted: Sequence[str] | pd.Index | np.ndarray,
    step: str,
    missing_genes: str,
    least_known: float = 0.0,
) -> np.ndarray | None:
    """Column of each wanted gene, -1 for a missing one; None where the genes are the same in the same order.

    At least a share ``least_known`` of the genes must be there, also with ``missing_genes="zero"``.

    Raises
    ------
    ValueError
        Wanted genes are missing, or are there twice.
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
    if len(missing) == len(wanted):
        there = f"The data have none of the {len(wanted)} genes of step {step!r} ({some_of(wanted)})"
        msg = f"{there}; they have {some_of(present)}. {_advice(missing, present)}"
        raise ValueError(msg)
    if len(missing):
        if missing_genes == "zero" and 1 - len(missing) / len(wanted) < least_known:
            raise ValueError(_too_few(missing, wanted, present, step, least_known))
        _report_missing(missing, wanted, present, step, missing_genes)
    return columns


def _report_missing(missing: pd.Index, wanted: pd.Index, present: pd.Index, step: str, missing_genes: str) -> None:
    """Warn of genes that are taken as zero; refuse missing ones otherwise."""
    some = some_of(missing)
    if missing_genes == "zero":
        share = f"{len(missing)} of its {len(wanted)} genes ({len(missing) / len(wanted):.0%})"
        log.warn(
            f"Step {step!r} takes {share} as zero, because the data lack them: {some}. Totals of cells, and what is "
            f"computed from them, are off by what these genes would have added. {renaming_hint(missing, present)}"
        )
        return
    advice = f'{_advice(missing, present)} To count missing genes as zero: missing_genes="zero".'
    msg = f"Step {step!r} needs {len(wanted)} genes, of which the data lack {len(missing)}: {some}. {advice}"
    raise ValueError(msg)


def _too_few(missing: pd.Index, wanted: pd.Index, present: pd.Index, step: str, least_known: float) -> str:
    n_known = len(wanted) - len(missing)
    return (
        f"Step {step!r} knows {len(wanted)} genes, of which the data have {n_known} ({n_known / len(wanted):.0%}), too "
        f"few to take the others as zero: at least {least_known:.0%} must be there. They lack {some_of(missing)}. "
        f"{_advice(missing, present)}"
    )


def _advice(missing: pd.Index, present: pd.Index) -> str:
    return renaming_hint(missing, present) or "Name genes as the reference does."


SPELLINGS: dict[str, Callable[[str], str]] = {
    "in upper and lower case only": str.casefold,
    "in spaces around them only": str.strip,
    "by a version at their end only": lambda name: re.sub(r"\.\d+$", "", name),
    "in punctuation only": lambda name: re.sub(r"[-_. ]", ".", name),
    "by a genome in front of them only": lambda name: re.sub(r"^(GRCh\d+|GRCm\d+|hg\d+|mm\d+)_+", "", name),
}
"""How names of the same thing differ -> what makes them equal."""


def renaming_hint(missing: Iterable[str], present: Iterable[str]) -> str:
    """Under which other spelling missing names are present, and how to rename them; empty if they are not."""
    missing, present = list(map(str, missing)), list(map(str, present))
    for difference, plain in SPELLINGS.items():
        known = {plain(name): name for name in present}
        pairs = [(name, known[plain(name)]) for name in missing if plain(name) in known]
        if pairs:
            wanted, found = pairs[0]
            return (
                f"{len(pairs)} of the missing names differ from names in the data {difference} ({found!r} here, "
                f"{wanted!r} in the program): rename them as the program has them."
            )
    return ""


def gene_array(names: pd.Index | np.ndarray) -> np.ndarray:
    """Gene names as h5ad and zarr both keep them."""
    return np.array([str(name) for name in names.tolist()], dtype=object)


def some_of(names: Iterable, count: int = 5) -> str:
    """The first few names, for messages."""
    names = list(map(str, names))
    return ", ".join(names[:count]) + (" ..." if len(names) > count else "")
