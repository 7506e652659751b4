"""Genes of a table found among those of the data by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dbx.ops.checks import listed
from dbx.program import log

LEAST_KNOWN, FEW_KNOWN = 0.5, 0.8
"""Shares of the genes below which a table is refused, and below which there is a warning."""
ENSEMBL_VERSION = r"^(ENS[A-Z]*\d{11})\.\d+$"


def known_genes(genes: pd.Index, known: Sequence[str] | pd.Index, what: str) -> np.ndarray:
    """Row of each gene in ``known``, -1 for those that are not there; an array of shape (n_genes,), int.

    Names must agree in case; versions of Ensembl identifiers are ignored where only they differ, which is said.

    Raises
    ------
    ValueError
        Fewer than half of the genes are known, or known names are there twice.
    """
    genes, known = pd.Index(genes).astype(str), pd.Index(known).astype(str)
    if known.has_duplicates:
        msg = f"{what} name genes more than once: {listed(known[known.duplicated()].unique())}."
        raise ValueError(msg)
    rows = known.get_indexer(genes)
    plain, plain_known = _without_version(genes), _without_version(known)
    if (rows < 0).any() and not plain_known.has_duplicates:
        again = np.where(rows < 0, plain_known.get_indexer(plain), rows)
        if (again >= 0).sum() > (rows >= 0).sum():
            log.warn(
                f"Versions of Ensembl identifiers are ignored: {what} name {(again >= 0).sum()} genes without them."
            )
            rows = again
    _check_share(genes, rows, known, what)
    return rows


def _without_version(names: pd.Index) -> pd.Index:
    return pd.Index(names.str.replace(ENSEMBL_VERSION, r"\1", regex=True))


def _check_share(genes: pd.Index, rows: np.ndarray, known: pd.Index, what: str) -> None:
    n_known, lost = int((rows >= 0).sum()), genes[rows < 0]
    share = n_known / max(len(genes), 1)
    found = f"{what} know {n_known} of the {len(genes)} genes ({share:.0%}); unknown are {listed(lost)}"
    if share < LEAST_KNOWN:
        msg = f"{found}, and known ones are {listed(known)}: name genes alike (case and identifiers count)."
        raise ValueError(msg)
    if share < FEW_KNOWN:
        log.warn(f"{found}. Unknown genes are left out.")
