"""Ligand-receptor pairs of CellPhoneDB 2."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def cellphonedb() -> pd.DataFrame:
    """Load the ligand-receptor pairs of CellPhoneDB 2, with mouse orthologues.

    1,395 pairs of human proteins, named by gene symbols; the subunits of a complex are joined by ``"_"``
    (``"IL12A_IL12B"``). CellPhoneDB marks which partner is a receptor. Where it marks one of the two, that one is the
    receptor here; where it marks both or none (such as integrins with other membrane proteins), the order is that of
    CellPhoneDB. The file is part of the package; nothing is downloaded.

    Returns
    -------
    DataFrame with the columns

    ``ligand``, ``receptor``
        Human gene symbols.
    ``ligand_mouse``, ``receptor_mouse``
        The mouse orthologues (1,147 pairs), empty where a subunit has none. From Ensembl: the one-to-one orthologue, or
        of several the one of the same symbol.

    Notes
    -----
    Efremova et al., Nature Protocols, 2020, "CellPhoneDB: inferring cell-cell communication from combined expression of
    multi-subunit ligand-receptor complexes"; release 2.1.7 (MIT licence, copyright 2018 Teichmann Group; see
    `LICENSES.md` beside the file).

    Examples
    --------
    >>> import dbx
    >>> pairs = dbx.datasets.cellphonedb()
    >>> pairs.shape
    (1395, 4)
    """
    return pd.read_csv(Path(__file__).parent / "data" / "cellphonedb.csv", keep_default_na=False)
