"""The cells, simulated once for every size."""

from __future__ import annotations

import sys
from pathlib import Path


def prepare(folder: Path, n_cells: int) -> None:
    """Counts of a reference, and of a tenth as many new cells."""
    import dbx

    adata = dbx.datasets.simulate(n_cells + n_cells // 10, 2000, 12, 3, seed=0)
    adata[n_cells:].write_h5ad(folder / f"new_{n_cells}.h5ad")
    adata[:n_cells].write_h5ad(folder / f"counts_{n_cells}.h5ad")


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), int(sys.argv[2]))
