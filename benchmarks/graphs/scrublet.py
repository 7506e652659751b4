"""``dbx.pp.scrublet`` beside scanpy's: CPU seconds and memory of one call, the first and the next, each in a process.

    python -m benchmarks.graphs.scrublet [n_cells] [n_genes]

prints one line of a table: CPU seconds of the first and of a later call with all compilation (imports excluded), and
the peak of resident memory above that of the data. scanpy needs scikit-image for its threshold; it is given one here.
From 8,192 cells and doublets on it searches by pynndescent, which must be below 0.7: where the environment has a later
one, ``pip install --no-deps --target FOLDER 'pynndescent<0.7'`` and put FOLDER first on PYTHONPATH.
"""

from __future__ import annotations

import json
import sys
import warnings

from benchmarks.graphs.calls import columns, in_process, timed

CALLS = {"scanpy": {}, "dbx": {}, "dbx, calibrated": {"method": "calibrated"}}
THRESHOLD = 0.25


def measure(tool: str, n_cells: int, n_genes: int) -> dict[str, float]:
    """CPU seconds of two calls with different seeds, and megabytes above the data."""
    warnings.simplefilter("ignore")
    import scanpy as sc

    import dbx

    cells = dbx.datasets.simulate(n_cells, n_genes, 8, 1, seed=0)
    function = sc.pp.scrublet if tool == "scanpy" else dbx.pp.scrublet
    copies = ((seed, cells.copy()) for seed in range(2))
    return timed(lambda x: function(x[1], threshold=THRESHOLD, random_state=x[0], **CALLS[tool]), copies)


def main(n_cells: int = 8_000, n_genes: int = 1_500) -> None:
    """Print the line."""
    given = str(n_cells), str(n_genes)
    found = {tool: in_process("scrublet", sys.executable, tool, *given) for tool in CALLS}
    print(f"| scrublet, {n_cells:,} x {n_genes:,} | {columns(found, 'scanpy')} |")


if __name__ == "__main__":
    given = sys.argv[1:]
    if given[:1] == ["measure"]:
        print(json.dumps(measure(given[1], *map(int, given[2:]))))
    else:
        main(*map(int, given))
