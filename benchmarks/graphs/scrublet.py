"""``dbx.pp.scrublet`` beside scanpy's: CPU seconds and memory of one call, the first and the next, each in a process.

    python benchmarks/graphs/scrublet.py [n_cells] [n_genes]

prints one line of a table: CPU seconds of the first and of a later call with all compilation (imports excluded), and
the peak of resident memory above that of the data. scanpy needs scikit-image for its threshold; it is given one here.
From 8,192 cells and doublets on it searches by pynndescent, which must be below 0.7.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
import warnings

CALLS = {"scanpy": {}, "dbx": {}, "dbx, calibrated": {"method": "calibrated"}}
THRESHOLD = 0.25


def measure(tool: str, n_cells: int, n_genes: int) -> dict[str, float]:
    """CPU seconds of two calls with different seeds, and megabytes above the data."""
    warnings.simplefilter("ignore")
    import scanpy as sc

    import dbx

    cells = dbx.datasets.simulate(n_cells, n_genes, 8, 1, seed=0)
    function = sc.pp.scrublet if tool == "scanpy" else dbx.pp.scrublet
    before, seconds = peak(), []
    for seed in range(2):
        data, start = cells.copy(), time.process_time()
        function(data, threshold=THRESHOLD, random_state=seed, **CALLS[tool])
        seconds.append(time.process_time() - start)
    return {"first": seconds[0], "later": seconds[1], "mb": peak() - before}


def peak() -> float:
    """Largest resident memory so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_process(tool: str, n_cells: int, n_genes: int) -> dict[str, float]:
    """:func:`measure` in a process of its own."""
    call = [sys.executable, __file__, str(n_cells), str(n_genes), tool]
    return json.loads(subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def main(n_cells: int = 8_000, n_genes: int = 1_500) -> None:
    """Print the line."""
    found = {tool: in_process(tool, n_cells, n_genes) for tool in CALLS}
    parts = [f"{tool} {v['first']:.1f} / {v['later']:.1f} s, {v['mb']:.0f} MB" for tool, v in found.items()]
    ratios = " / ".join(f"{found['scanpy'][key] / found['dbx'][key]:.1f}x" for key in ("first", "later"))
    print(f"| scrublet, {n_cells:,} x {n_genes:,} | {' | '.join(parts)} | {ratios} |")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(measure(sys.argv[3], int(sys.argv[1]), int(sys.argv[2]))))
    else:
        main(*map(int, sys.argv[1:]))
