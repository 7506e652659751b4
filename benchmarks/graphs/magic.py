"""``dbx.pp.magic`` beside magic-impute: CPU seconds of a first and a later call, each in a process of its own.

    python -m benchmarks.graphs.magic [n_cells] [n_genes] [t] [python]

prints one line of a table: CPU seconds of both calls with all compilation (imports excluded), and the peak of resident
memory above that of the data. magic-impute 3.0 needs Python 3.11 with pandas 2.0.3 and setuptools below 80:
``python`` is the interpreter of that environment; without one, only dbx is measured. Both get square roots of
normalised counts and the same settings, with 100 principal components.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from benchmarks.graphs.calls import columns, in_process, timed


def measure(tool: str, path: str, t: str) -> dict[str, float]:
    """CPU seconds of two calls, and megabytes above the data."""
    import numpy as np

    x, steps = np.load(path), t if t == "auto" else int(t)
    if tool == "dbx":
        import anndata as ad

        from dbx.pp import magic as of_dbx

        def call(number: int) -> None:
            of_dbx(ad.AnnData(x), t=steps)
    else:
        import magic

        def call(number: int) -> None:
            magic.MAGIC(t=steps, verbose=0, random_state=0).fit_transform(x)

    return timed(call)


def main(n_cells: str = "20000", n_genes: str = "50", t: str = "3", python: str = "") -> None:
    """Print the line."""
    import numpy as np

    import dbx

    cells = dbx.datasets.simulate(int(n_cells), int(n_genes), 8, 1, seed=0)
    dbx.pp.normalize_total(cells)
    dbx.pp.sqrt(cells)
    tools = {"magic-impute": python, "dbx": sys.executable} if python else {"dbx": sys.executable}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "x.npy")
        np.save(path, cells.X.toarray())
        found = {tool: in_process("magic", program, tool, path, t) for tool, program in tools.items()}
    print(f"| magic, t={t}, {cells.n_obs:,} x {cells.n_vars:,} | {columns(found, 'magic-impute')} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(*sys.argv[2:5])))
    else:
        main(*sys.argv[1:5])
