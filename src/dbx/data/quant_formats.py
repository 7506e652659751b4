"""Names of the files of salmon and kallisto, and what both readers of kallisto need of one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

ESTIMATES = ("abundance.tsv", "abundance.tsv.gz", "abundance.h5")
"""Files of kallisto with lengths and estimates."""
CLASSES = {
    "salmon": tuple(folder + name for folder in ("aux_info/", "") for name in ("eq_classes.txt.gz", "eq_classes.txt")),
    "kallisto": ("matrix.ec",),
}
"""Files with equivalence classes by tool."""


def lengths_in(path: Path) -> pd.DataFrame:
    """Lengths and effective lengths by name of transcript, of ``abundance.h5`` of kallisto."""
    import h5py

    with h5py.File(path) as file:
        index = pd.Index([text.decode() for text in file["aux/ids"][:]])
        values = {
            "length": file["aux/lengths"][:].astype(np.float64),
            "eff_length": file["aux/eff_lengths"][:].astype(np.float64),
        }
    return pd.DataFrame(values, index)
