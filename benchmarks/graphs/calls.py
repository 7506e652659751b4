"""A first and a later call of a tool in a process of its own: what the benchmarks beside other tools share.

A benchmark is run as a module (``python -m benchmarks.graphs.phate``), so that its name hides no package, and runs
itself again for each tool: ``measure TOOL ...`` prints what it measured as JSON.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def peak() -> float:
    """Largest resident memory of this process since it began or was reset, in megabytes (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def reset_peak() -> float:
    """Resident memory now, in megabytes, from which on the largest is counted anew."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def timed(call: Callable[[Any], Any], inputs: Iterable[Any] = (0, 1)) -> dict[str, float]:
    """CPU seconds of the first call and the median of the later ones, and megabytes above what was held before.

    There is a call for each of the ``inputs``, which may be made one after the other: that is not timed.
    """
    before, seconds = reset_peak(), []
    for given in inputs:
        start = time.process_time()
        call(given)
        seconds.append(time.process_time() - start)
    later = sorted(seconds[1:])
    middle = (later[(len(later) - 1) // 2] + later[len(later) // 2]) / 2
    return {"first": seconds[0], "later": middle, "mb": peak() - before}


def in_process(module: str, python: str, *args: str) -> dict[str, float]:
    """What ``python -m benchmarks.graphs.<module> measure ...`` prints."""
    command = [python, "-m", f"benchmarks.graphs.{module}", "measure", *args]
    said = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(said.splitlines()[-1])


def columns(found: Mapping[str, Mapping[str, float]], peer: str, digits: int = 1) -> str:
    """Seconds and megabytes of each tool, and how many times the peer takes the time of dbx, where it is there."""
    parts = []
    for tool, v in found.items():
        memory = f", {v['mb']:.0f} MB" if "mb" in v else ""
        parts.append(f"{tool} {v['first']:.{digits}f} / {v['later']:.{digits}f} s{memory}")
    if {peer, "dbx"} <= set(found):
        parts.append(" / ".join(f"{found[peer][key] / found['dbx'][key]:.1f}x" for key in ("first", "later")))
    return " | ".join(parts)
