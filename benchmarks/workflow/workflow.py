"""The scanpy workflow, step by step, in dbx and in the tools a user would pick instead; prints a Markdown table."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.workflow.steps import STEPS

TOOLS = ("scanpy", "dbx")
PACKAGES = ["scanpy", "anndata", "harmonypy", "umap-learn", "pynndescent", "numba", "igraph"]
PACKAGES += ["numpy", "scipy", "jax", "flax", "dbx-bio"]
ROOT = Path(__file__).parents[2]


class Worker:
    """A tool in its own process, without any compile cache left by an earlier one."""

    def __init__(self, tool: str, inputs: Path, *, caches: bool):
        self.scratch = tempfile.TemporaryDirectory()
        environment = {k: v for k, v in os.environ.items() if caches or not k.startswith("JAX_COMPILATION_CACHE")}
        if not caches:
            environment["NUMBA_CACHE_DIR"] = self.scratch.name
        command = [sys.executable, "-m", "benchmarks.workflow.worker", tool, str(inputs)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT, env=environment
        )
        self.import_time = self._answer()["import"]

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            msg = f"The worker ended with status {self.process.wait()}."
            raise RuntimeError(msg)
        return json.loads(line)

    def run(self, step: str, measure: str = "time") -> dict:
        """Times or memory of one call of a step; empty where the tool has no such function."""
        self.process.stdin.write(f"{measure} {step}\n")
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.scratch.cleanup()


def compare(inputs: Path, steps: list[str], repeats: int, fresh: int, *, caches: bool, note=print) -> dict:
    """First calls in fresh processes, one tool after the other; then later calls, both tools alternating."""
    found = {tool: {step: {"first": [], "later": [], "memory": []} for step in steps} for tool in TOOLS}
    imports = {tool: [] for tool in TOOLS}
    with contextlib.ExitStack() as stack:
        for turn in range(fresh):
            workers = {}
            for tool in TOOLS:
                workers[tool] = Worker(tool, inputs, caches=caches)
                stack.callback(workers[tool].close)
                imports[tool].append(workers[tool].import_time)
                for step in steps:
                    found[tool][step]["first"].append(workers[tool].run(step))
                    note(f"first {turn + 1}/{fresh}  {tool:7} {step:34} {_seconds(found[tool][step]['first'][-1:])}")
            if turn < fresh - 1:
                stack.pop_all().close()
        for step in steps:
            for repeat in range(repeats):
                for tool in TOOLS[:: 1 if repeat % 2 else -1]:
                    found[tool][step]["later"].append(workers[tool].run(step))
            for tool in TOOLS:
                found[tool][step]["memory"].append(workers[tool].run(step, "memory"))
            note(f"later      {step:34} " + "  ".join(f"{t} {_seconds(found[t][step]['later'])}" for t in TOOLS))
    return {"steps": found, "imports": imports}


def _values(calls: list[dict], key: str) -> list[float]:
    return [call[key] for call in calls if key in call]


def _seconds(calls: list[dict]) -> str:
    return f"{median(_values(calls, 'wall')):.3f} s" if _values(calls, "wall") else "-"


def _ratio(peer: float | None, ours: float | None) -> str:
    return "-" if not peer or ours is None else f"{ours / peer:.2f}"


def _cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def table(found: dict, clock: str = "wall") -> str:
    """The comparison as a Markdown table; ratios are dbx / scanpy, so that less than 1 is faster."""
    head = ["step", "scanpy first", "dbx first", "ratio", "scanpy later", "dbx later", "ratio", "scanpy MB", "dbx MB"]
    rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
    sums = {(tool, when): 0.0 for tool in TOOLS for when in ("first", "later")}
    counted = {step.name: step.counted for step in STEPS}
    for step in found["scanpy"]:
        calls = {tool: found[tool][step] for tool in TOOLS}
        row = [step]
        there = all(_values(calls[tool]["first"], clock) for tool in TOOLS)
        for when in ("first", "later"):
            wall = {tool: median(times) if (times := _values(calls[tool][when], clock)) else None for tool in TOOLS}
            row += [_cell(wall[tool], 3) for tool in TOOLS] + [_ratio(*(wall[tool] for tool in TOOLS))]
            for tool in TOOLS:
                sums[tool, when] += wall[tool] if there and counted[step] else 0
        rows.append(row + [_cell(max(_values(calls[tool]["memory"], "memory"), default=None), 0) for tool in TOOLS])
    total = ["**sum without leiden**"]
    for when in ("first", "later"):
        pair = [sums[tool, when] for tool in TOOLS]
        total += [f"**{seconds:.2f}**" for seconds in pair] + [f"**{_ratio(*pair)}**"]
    peaks = [max(call["process"] for step in found[tool].values() for call in step["memory"]) for tool in TOOLS]
    rows.append(total + [f"{peak:.0f} (process)" for peak in peaks])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def import_times(repeats: int = 5) -> dict[str, float]:
    """Seconds to import each tool in a fresh process, medians of alternating runs."""
    script = "import sys, time; t = time.perf_counter(); __import__(sys.argv[1]); print(time.perf_counter() - t)"
    times = {tool: [] for tool in TOOLS}
    for _ in range(repeats):
        for tool in TOOLS:
            done = subprocess.run([sys.executable, "-W", "ignore", "-c", script, tool], capture_output=True, check=True)
            times[tool].append(float(done.stdout))
    return {tool: median(values) for tool, values in times.items()}


def conditions(options) -> str:
    """Date, machine, versions and sizes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = []
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    caches = "compile caches as they were" if options.caches else "no compile cache"
    clock = "Seconds" if options.clock == "wall" else "Processor seconds of all threads"
    return (
        f"{datetime.date.today()}, {options.cells} cells x {options.genes} genes (simulated, CSR, {options.groups} "
        f"groups, {options.batches} batches), {cores} cores ({platform.machine()}), load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}. First: median of {options.fresh} fresh process(es), {caches}. "
        f"Later: median of {options.repeats} alternating calls. {clock}; MB: peak memory of a call "
        f"above its start; ratio: dbx / scanpy.\n\n{', '.join(versions)}"
    )


def main(arguments: list[str] | None = None) -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--groups", type=int, default=12)
    parser.add_argument("--batches", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5, help="later calls of each step")
    parser.add_argument("--fresh", type=int, default=1, help="fresh processes of each tool, for first calls")
    parser.add_argument("--steps", nargs="+", help="only steps whose name contains one of these words")
    parser.add_argument("--caches", action="store_true", help="leave numba's and JAX's compile caches as they are")
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu: processor time of all threads, where other work keeps the machine busy",
    )
    parser.add_argument("--out", type=Path, help="write the table here too")
    parser.add_argument("--json", type=Path, help="write every single measurement here")
    options = parser.parse_args(arguments)
    names = [s.name for s in STEPS if not options.steps or any(word in s.name for word in options.steps)]
    with tempfile.TemporaryDirectory() as folder:
        sizes = [options.cells, options.genes, options.groups, options.batches]
        command = [sys.executable, "-m", "benchmarks.workflow.inputs", folder, *map(str, sizes)]
        subprocess.run(command, check=True, cwd=ROOT)
        found = compare(
            Path(folder),
            names,
            options.repeats,
            options.fresh,
            caches=options.caches,
            note=lambda line: print(line, file=sys.stderr),
        )
    imports = import_times()
    text = f"{table(found['steps'], options.clock)}\n\n{conditions(options)}\n\nImport: " + ", ".join(
        f"{tool} {seconds:.2f} s" for tool, seconds in imports.items()
    )
    text += f" (ratio {imports['dbx'] / imports['scanpy']:.2f}; at most 1.3 is allowed)\n"
    print(text)
    if options.out:
        options.out.write_text(text)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
