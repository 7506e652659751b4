"""One step in a process of its own: seconds of the first call, and memory above that before it."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import sys
import time
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")


def resident(name: str) -> float:
    """Memory of the process in MB: ``VmRSS`` now, ``VmHWM`` its peak since the last reset."""
    return int(re.search(rf"{name}:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def measure(call: str, scope: dict[str, Any]) -> dict[str, float]:
    """Wall and processor seconds, and memory, of a call; Linux only."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    held, code = resident("VmRSS"), compile(call, "call", "exec")
    wall, cpu = time.perf_counter(), time.process_time()
    exec(code, scope)
    found = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "held": held}
    return found | {"memory": resident("VmHWM") - held, "process": resident("VmHWM"), "load": os.getloadavg()[0]}


def run(step: str, folder: Path, n_cells: int) -> dict[str, float]:
    """Read, call, write."""
    import anndata
    import sklearn.metrics
    from benchmarks.scaling.slots import read, write
    from benchmarks.scaling.steps import RERUN, STEPS

    import dbx

    file, asked = folder / f"cells_{n_cells}.h5ad", STEPS[step]
    adata = read(file, asked.reads)
    scope = {"dbx": dbx, "sklearn": sklearn, "adata": adata}
    if step == RERUN:
        scope["new"] = anndata.read_h5ad(folder / f"new_{n_cells}.h5ad")
    nnz = adata.X.nnz if "X" in asked.reads else 0
    found = measure(asked.call, scope) | {"nnz": nnz}
    if asked.score:
        found["score"] = float(eval(asked.score, scope))
    write(file, adata, asked.writes)
    return found


def main(step: str, folder: str, n_cells: str) -> None:
    """Answer as JSON."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    print(json.dumps(run(step, Path(folder), int(n_cells))), file=answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
