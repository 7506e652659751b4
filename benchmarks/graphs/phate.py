"""``dbx.tl.phate`` beside phate: CPU seconds and memory of one call, the first and the next, each in a process.

    python -m benchmarks.graphs.phate [n_cells] [n_dims] [python_of_phate]

prints one line of a table: CPU seconds of the first and of a later call with all compilation (imports excluded), and
the peak of resident memory above that of the data. phate 2.0 needs pandas below 2.1 and NumPy below 2: name the Python
of an environment that has it; without one, its column stays empty.
"""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
from benchmarks.graphs.calls import columns, in_process, timed


def places(n_cells: int, n_dims: int) -> np.ndarray:
    """Points along the edges of a tree with noise: array of shape (n_cells, n_dims), float32."""
    rng = np.random.default_rng(0)
    corners = np.cumsum(rng.normal(0, 1, (12, n_dims)), axis=0)
    start, share = rng.integers(0, 11, n_cells), rng.random((n_cells, 1))
    before = np.maximum(start - rng.integers(0, 2, n_cells), 0)
    x = corners[before] * (1 - share) + corners[start + 1] * share
    return (6 * x + rng.normal(0, 1, x.shape)).astype(np.float32)


def measure(tool: str, n_cells: int, n_dims: int) -> dict[str, float]:
    """CPU seconds of two calls with different seeds, and megabytes above the data."""
    warnings.simplefilter("ignore")
    x = places(n_cells, n_dims)
    return timed(_dbx(x) if tool == "dbx" else _phate(x))


def _dbx(x: np.ndarray):
    import anndata as ad

    import dbx

    adata, function = ad.AnnData(np.zeros((len(x), 1), np.float32), obsm={"X_rep": x}), dbx.tl.phate
    return lambda seed: function(adata, use_rep="X_rep", random_state=seed)


def _phate(x: np.ndarray):
    import phate

    def call(seed: int):
        return phate.PHATE(n_pca=None, n_jobs=2, verbose=0, random_state=seed).fit_transform(x)

    return call


def main(n_cells: int = 20_000, n_dims: int = 50, python: str = "") -> None:
    """Print the line."""
    pythons = {"phate": python, "dbx": sys.executable}
    given = str(n_cells), str(n_dims)
    found = {tool: in_process("phate", path, tool, *given) for tool, path in pythons.items() if path}
    print(f"| phate, {n_cells:,} x {n_dims} | {columns(found, 'phate')} |")


if __name__ == "__main__":
    given = sys.argv[1:]
    if given[:1] == ["measure"]:
        print(json.dumps(measure(given[1], *map(int, given[2:]))))
    else:
        main(*map(int, given[:2]), *given[2:])
