"""``dbx.tl.fate_probabilities`` beside CellRank's kernel and solve: CPU seconds and memory of calls in one process.

    python -m benchmarks.graphs.fates [n_cells] [python_of_cellrank]

prints one line of a table: CPU seconds of the first and of a later call with all compilation (imports excluded), and
the peak of resident memory above that of the data, for the hard pseudotime kernel and five terminal states of 30 cells
on one graph of 30 neighbours; then the largest difference of the probabilities. Name the Python of an environment that
has CellRank; without one, its column stays empty.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from benchmarks.graphs.calls import columns, in_process, timed

N_ENDS = 5


def write_cells(path: Path, n_cells: int) -> None:
    """Cells on a trunk that splits into five arms, with their time, neighbours and terminal states."""
    import anndata as ad
    import pandas as pd

    import dbx

    rng = np.random.default_rng(0)
    t, arm = rng.random(n_cells), rng.integers(0, N_ENDS, n_cells)
    arms = rng.normal(size=(N_ENDS, 30))
    x = np.maximum(t - 0.3, 0)[:, None] * arms[arm] * 3 + t[:, None] * rng.normal(size=30)
    x = (x + rng.normal(0, 0.25, x.shape)).astype(np.float32)
    cells = ad.AnnData(np.zeros((n_cells, 1), np.float32), obsm={"X_rep": x})
    cells.obs["time"] = t
    latest = np.zeros(n_cells, bool)
    for end in range(N_ENDS):
        latest[np.flatnonzero(arm == end)[np.argsort(-t[arm == end])[:30]]] = True
    cells.obs["ends"] = pd.Categorical(np.where(latest, np.char.add("end", arm.astype(str)), None))
    dbx.pp.neighbors(cells, n_neighbors=30, use_rep="X_rep")
    cells.write(path)


def measure(tool: str, path: str) -> dict[str, float]:
    """CPU seconds of two calls, and megabytes above the data; the probabilities are written beside the cells."""
    warnings.simplefilter("ignore")
    import anndata as ad

    cells = ad.read_h5ad(path)
    call, fates = _dbx() if tool == "dbx" else _cellrank(), {}
    found = timed(lambda data: fates.update(last=call(data)), (cells.copy() for _ in range(2)))
    np.save(Path(path).with_name(f"{tool}.npy"), np.asarray(fates["last"]))
    return found


def _dbx():
    from dbx.tl import fate_probabilities

    def call(cells) -> np.ndarray:
        fate_probabilities(cells, "ends", time_key="time")
        return cells.obsm["lineages_fwd"]

    return call


def _cellrank():
    import cellrank

    def call(cells) -> np.ndarray:
        kernel = cellrank.kernels.PseudotimeKernel(cells, time_key="time")
        kernel.compute_transition_matrix(threshold_scheme="hard", show_progress_bar=False)
        estimator = cellrank.estimators.GPCCA(kernel)
        estimator.set_terminal_states(cells.obs["ends"].copy())
        estimator.compute_fate_probabilities(show_progress_bar=False)
        return np.asarray(estimator.fate_probabilities)

    return call


def main(n_cells: int = 20_000, python: str | None = None) -> None:
    """Print the line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.h5ad"
        write_cells(path, n_cells)
        pythons = {"cellrank": python, "dbx": sys.executable}
        found = {tool: in_process("fates", program, tool, str(path)) for tool, program in pythons.items() if program}
        print(f"| `tl.fate_probabilities`, {n_cells:,}, {N_ENDS} ends | {columns(found, 'cellrank')} |")
        if "cellrank" in found:
            mine, other = (np.load(Path(folder) / f"{tool}.npy") for tool in ("dbx", "cellrank"))
            print(f"largest difference of probabilities: {np.abs(mine - other).max():.1g}")


if __name__ == "__main__":
    given = sys.argv[1:]
    if given[:1] == ["measure"]:
        print(json.dumps(measure(*given[1:])))
    else:
        main(*[int(v) for v in given[:1]], *given[1:2])
