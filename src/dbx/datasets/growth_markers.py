"""Marker genes of proliferation and of apoptosis."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd

from dbx.ops.checks import check_known


def growth_markers(organism: Literal["human", "mouse"]) -> dict[str, list[str]]:
    """Load marker genes of proliferation and of apoptosis, as they are used for growth rates.

    97 genes of the phases S and G2/M (Tirosh et al., Science, 2016) and 161 of apoptosis (hallmark gene set of MSigDB;
    Liberzon et al., Cell Systems, 2015; CC BY 4.0), which moscot uses, too. Genes that have been renamed are listed by
    both names. Mouse genes are those of the same symbol. The file is part of the package; nothing is downloaded.

    Parameters
    ----------
    organism
        ``"human"`` or ``"mouse"``.

    Returns
    -------
    ``{"proliferation": [...], "apoptosis": [...]}``, for ``growth_genes`` of :func:`dbx.tl.ot_trajectory`.

    Raises
    ------
    ValueError
        Another organism.

    Examples
    --------
    >>> import dbx
    >>> markers = dbx.datasets.growth_markers("mouse")
    >>> markers["proliferation"][:3]
    ['Anln', 'Anp32e', 'Atad2']
    """
    check_known(organism, ("human", "mouse"), "organism")
    table = pd.read_csv(Path(__file__).parent / "data" / "growth_markers.csv")
    return {name: list(genes) for name, genes in table.groupby("process")[organism]}
