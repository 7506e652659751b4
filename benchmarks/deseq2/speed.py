"""Times of dbx.tl.de, pydeseq2 and R DESeq2 on the same counts, each in fresh processes that take turns."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from benchmarks.deseq2.data import write_airway, write_cells
from benchmarks.deseq2.reference import Reference
from benchmarks.deseq2.tables import table
from scipy import stats

ROOT = Path(__file__).parents[2]
LEVEL = 0.05
FEW_CELLS, MANY_CELLS = 5_000, 100_000
CLOCKS = ("cpu", "wall")
POSCOUNTS = {"size_factors": "poscounts"}


@dataclass(frozen=True, eq=False)
class Job:
    """A tool with settings, on one of the sets."""

    tool: str
    data: str
    name: str
    settings: dict = field(default_factory=dict)
    n_calls: int = 1
    is_weighed: bool = False


JOBS = [
    Job("dbx", "airway", "dbx", n_calls=4),
    Job("pydeseq2", "airway", "pydeseq2"),
    Job("R", "airway", "R DESeq2", n_calls=2),
    Job("dbx", "cells", "dbx", POSCOUNTS, 3, is_weighed=True),
    Job("dbx", "cells", "dbx, min_mu=0.5", POSCOUNTS | {"min_mu": 0.5}, 3, is_weighed=True),
    Job("pydeseq2", "cells", "pydeseq2", {"size_factors_fit_type": "poscounts"}),
    Job("R", "cells", "R DESeq2", {"sfType": "poscounts"}),
    Job("R", "cells", "R DESeq2, minmu=1e-6", {"sfType": "poscounts", "minmu": 1e-6}),
    Job("dbx", "many", "dbx", POSCOUNTS, 2, is_weighed=True),
]


class Worker:
    """A tool in its own process, without compiled code left by an earlier one."""

    def __init__(self, command: list[str]):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION_CACHE")}
        environment["PYTHONPATH"] = str(ROOT)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT, env=environment
        )
        self.start = self._answer() | {"cpu": self._cpu()}

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            msg = f"The worker ended with status {self.process.wait()}."
            raise RuntimeError(msg)
        return json.loads(line)

    def _cpu(self) -> float:
        """Processor time so far, of the process and those that it started."""
        main = psutil.Process(self.process.pid)
        return sum(sum(each.cpu_times()[:4]) for each in [main, *main.children(recursive=True)])

    def ask(self, *words: str) -> dict:
        """Its answer, with the processor seconds it took."""
        before = self._cpu()
        self.process.stdin.write("\t".join(words) + "\n")
        return self._answer() | {"cpu": self._cpu() - before}

    def call(self, *words: str) -> dict:
        """The same on fresh data, which are not measured."""
        self.ask("make")
        return self.ask(*words)

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait(timeout=60)


def measure(job: Job, command: list[str], folder: Path) -> dict:
    """Import, first call, later calls, memory and p-values of a job in a fresh process."""
    worker, out = Worker(command), folder / "pvalues"
    worker.ask("load", str(folder), json.dumps(job.settings))
    calls = [worker.call("run", str(out)) for _ in range(job.n_calls)]
    memory = worker.call("weigh") if job.is_weighed else {}
    worker.close()
    return {"import": worker.start, "calls": calls, "memory": memory, "pvalue": np.fromfile(out)}


def commands(pydeseq2: str, rscript: str) -> dict[str, list[str]]:
    """How to start each tool that is there."""
    found = {"dbx": [sys.executable, "-m", "benchmarks.deseq2.worker", "dbx"]}
    if _runs([pydeseq2, "-c", "import pydeseq2"]):
        found["pydeseq2"] = [pydeseq2, "-m", "benchmarks.deseq2.worker", "pydeseq2"]
    if _runs([rscript, "-e", "stopifnot(requireNamespace('DESeq2'), requireNamespace('jsonlite'))"]):
        found["R"] = [rscript, str(Path(__file__).with_name("worker.R"))]
    return found


def _runs(command: list[str]) -> bool:
    return shutil.which(command[0]) is not None and subprocess.run(command, capture_output=True).returncode == 0


def report(airway: Path | None, pydeseq2: str, rscript: str, rounds: int, words: list[str] | None) -> str:
    """Markdown."""
    tools = commands(pydeseq2, rscript)
    jobs = [job for job in JOBS if job.tool in tools and (airway or job.data != "airway")]
    jobs = [job for job in jobs if not words or any(word in f"{job.data}: {job.name}" for word in words)]
    sizes = {"cells": FEW_CELLS, "many": MANY_CELLS}
    found, changed = defaultdict(list), {}
    with tempfile.TemporaryDirectory() as scratch:
        sets = {job.data for job in jobs}
        if "airway" in sets:
            write_airway(Path(scratch) / "airway", Reference(airway))
        for name, n_cells in sizes.items():
            if name in sets:
                changed[name] = write_cells(Path(scratch) / name, n_cells)
        for turn in range(rounds):
            for job in jobs:
                found[job].append(measure(job, tools[job.tool], Path(scratch) / job.data))
                last = found[job][-1]["calls"]
                took = ", ".join(f"{call['cpu']:.2f} ({call['wall']:.2f})" for call in last)
                print(f"{turn + 1}/{rounds} {job.data}: {job.name}: {took}", file=sys.stderr)
    titles = {"airway": "airway"} | {name: f"{n_cells:,} cells x 2,000 genes" for name, n_cells in sizes.items()}
    parts = []
    for name, title in titles.items():
        own = {job: runs for job, runs in found.items() if job.data == name}
        if own:
            parts += [f"### {title}", times(own)]
            parts += [power(own, changed[name])] if name in changed else []
    absent = [tool for tool in ("pydeseq2", "R") if tool not in tools]
    if absent:
        parts.append(f"Not installed, so not measured: {', '.join(absent)}.")
    parts.append(_versions(tools, found))
    return "\n\n".join(parts)


def times(found: dict[Job, list[dict]]) -> str:
    """A row for each job: processor seconds of all processes, wall seconds in brackets; medians.

    The ratios are of the first dbx job to this one, its first or later calls.
    """
    rows, ours = [], None
    for job, runs in found.items():
        first = _medians([run["calls"][0] for run in runs])
        later = _medians([call for run in runs for call in run["calls"][1:]]) or first
        ours = ours or (first, later)
        memory = max((run["memory"].get("memory", 0) for run in runs), default=0)
        process = max(call.get("process", 0) for run in runs for call in run["calls"])
        rows.append(
            [
                job.name,
                _both(_medians([run["import"] for run in runs]), 2),
                _both(first, 2),
                _both(later, 2) if job.n_calls > 1 else "-",
                *(_both({c: a[c] / b[c] for c in CLOCKS}, 3) for a, b in zip(ours, (first, later), strict=True)),
                *(f"{size:.0f}" if size else "-" for size in (memory, process)),
            ]
        )
    return table(["tool", "import", "first", "later", "dbx/this first", "dbx/this later", "MB", "process MB"], rows)


def _medians(calls: list[dict]) -> dict[str, float]:
    return {clock: median(call[clock] for call in calls) for clock in CLOCKS} if calls else {}


def _both(values: dict[str, float], digits: int) -> str:
    return f"{values['cpu']:.{digits}f} ({values['wall']:.{digits}f})"


def power(found: dict[Job, list[dict]], changed: np.ndarray) -> str:
    """Recall and false discoveries at Benjamini and Hochberg's .05 over all genes."""
    rows = []
    for job, runs in found.items():
        p = runs[0]["pvalue"]
        adjusted = np.ones(len(p))
        adjusted[np.isfinite(p)] = stats.false_discovery_control(p[np.isfinite(p)])
        called = adjusted < LEVEL
        recall, false = (called & changed).sum() / changed.sum(), (called & ~changed).sum() / max(called.sum(), 1)
        rows.append([job.name, called.sum(), f"{recall:.3f}", f"{false:.3f}"])
    return table(["tool", "called", "recall", "false discoveries"], rows)


def _versions(tools: dict[str, list[str]], found: dict[Job, list[dict]]) -> str:
    texts = []
    if "pydeseq2" in tools:
        script = "from importlib.metadata import version as v; print('pydeseq2', v('pydeseq2') + ', numpy', v('numpy'))"
        done = subprocess.run([tools["pydeseq2"][0], "-c", script], capture_output=True, text=True, check=True)
        texts.append(done.stdout.strip())
    r = next((runs[0]["import"]["version"] for job, runs in found.items() if job.tool == "R"), None)
    texts += [f"DESeq2 {r}"] if r else []
    return "Compared with: " + (", ".join(texts) or "none") + "."
