"""One tool in a process of its own: told what to measure (`time pca`), it answers with times or memory as JSON."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import resource
import sys
import time
import warnings
from functools import partial
from pathlib import Path

warnings.simplefilter("ignore")


def timed(run, adata) -> dict[str, float]:
    """Wall time, and processor time of all threads."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    run(adata)
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def weighed(run, adata) -> dict[str, float]:
    """Peak memory of a call above that before it, in MB; Linux only."""
    gc.collect()
    if sys.platform != "linux":
        run(adata)
        return {}
    # memory that was freed but kept by the process would hide what the call takes
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    run(adata)
    return {"memory": peak() - before}


def peak() -> float:
    """Peak resident memory since the last reset, in MB."""
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def main(tool: str, folder: Path) -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not get between the answers

    import anndata as ad
    from benchmarks.workflow.steps import STEPS, call

    start = time.perf_counter()
    __import__(tool)
    answers.write(json.dumps({"import": time.perf_counter() - start}) + "\n")
    steps, stages = {step.name: step for step in STEPS}, {}
    for line in sys.stdin:
        measure, name = line.strip().split(" ", 1)
        step = steps[name]
        if step.input not in stages:
            stages[step.input] = ad.read_h5ad(folder / f"{step.input}.h5ad")
        answer = {"time": timed, "memory": weighed}[measure](partial(call, tool, step), stages[step.input].copy())
        answer["process"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
