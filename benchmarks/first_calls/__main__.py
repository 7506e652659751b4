"""What a user waits for in a new process: the first call of each step beside its second, and beside scanpy's.

    python -m benchmarks.first_calls --kept --out benchmarks/first_calls.md
    python -m benchmarks.first_calls --steps tl.de harmony --programs     # also what is compiled, slowest first
    python -m benchmarks.first_calls --processor                          # on a busy machine

A process for each step and tool, without compiled code of an earlier one. It imports the tool, reads the cells, and
calls the step twice, each time on cells just read. What the tool imports when it is first called is in the first call.
Trainings run for two epochs: longer ones compile nothing else. "First, code kept" is the first call in a second process
with ``dbx.settings.compilation_cache``.
"""

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
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.first_calls.steps import STEPS

ROOT = Path(__file__).parents[2]
PACKAGES = ["dbx-bio", "jax", "flax", "optax", "scanpy", "anndata", "harmonypy", "umap-learn", "pynndescent", "numba"]
PACKAGES += ["igraph", "numpy", "scipy"]
BAR = 1.5
BEGIN, END = "<!-- made by benchmarks.first_calls -->", "<!-- until here -->"


def ask(tool: str, step: str, folder: Path, clock: str, cache: str = "") -> dict[str, Any]:
    """What a worker in a process of its own measures."""
    stage, ours, *theirs = STEPS[step]
    call = ours if tool == "dbx" else (theirs or [ours])[0]
    with tempfile.TemporaryDirectory() as scratch:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION_CACHE")}
        environment |= {"NUMBA_CACHE_DIR": scratch, "JAX_LOG_COMPILES": "1"}
        command = [sys.executable, "-m", "benchmarks.first_calls.worker", tool, stage, call, str(folder), clock, cache]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        msg = f"{step} of {tool}:\n{done.stderr[-3000:]}"
        raise RuntimeError(msg)
    return json.loads(done.stdout.splitlines()[-1])


def middle(answers: list[dict[str, Any]]) -> dict[str, float]:
    """Medians over processes."""
    first, second = (median(answer["calls"][i] for answer in answers) for i in range(2))
    return {"import": median(answer["import"] for answer in answers), "first": first, "second": second}


HEAD = ["step", "first", "second", "difference", "programs", "compiling", "first, code kept"]
HEAD += ["scanpy first", "second", "difference"]


def table(found: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """One row for each step; in bold what is above the bar."""
    rows = [HEAD, ["---"] + ["---:"] * (len(HEAD) - 1)]
    for step, tools in found.items():
        row = [step]
        if "dbx" in tools:
            compiled = tools["dbx"][0]["programs"]
            row += times(tools["dbx"], BAR)
            row += [str(sum(stage.startswith("XLA") for stage, *_ in compiled)), f"{sum(s for *_, s in compiled):.2f}"]
            row += [f"{middle(tools['kept'])['first']:.2f}" if "kept" in tools else ""]
        row += times(tools["scanpy"]) if "scanpy" in tools else ["", "", ""]
        rows.append(row)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def times(answers: list[dict[str, Any]], bar: float = float("inf")) -> list[str]:
    """First call, second call, difference."""
    seconds = middle(answers)
    more = seconds["first"] - seconds["second"]
    return [f"{seconds['first']:.2f}", f"{seconds['second']:.2f}", f"**{more:.2f}**" if more > bar else f"{more:.2f}"]


def listed(programs: list[tuple[str, str, float]]) -> str:
    """Programs of a step with what each takes, slowest first."""
    seconds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for stage, name, spent in programs:
        of = seconds[name.removeprefix("jit(").removesuffix(")")]
        of["all"] += spent
        of[stage.split()[0]] += spent
        of["n"] += stage.startswith("XLA")
    lines = sorted(seconds.items(), key=lambda item: -item[1]["all"])
    shown = "{all:6.2f} s = tracing {tracing:.2f} + lowering {jaxpr:.2f} + XLA {XLA:.2f}, {n:.0f} x "
    return "\n".join(shown.format_map(n) + name for name, n in lines if n["XLA"])


def conditions(options: argparse.Namespace, found: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """Date, machine, versions, sizes and imports."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = []
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    imports = {
        tool: median(answer["import"] for tools in found.values() for answer in tools.get(tool, []))
        for tool in ("dbx", "scanpy")
        if any(tool in tools for tools in found.values())
    }
    kind = "Wall" if options.clock == "perf_counter" else "Processor"
    size = f"{options.cells} cells x {options.genes} genes"
    return (
        f"{datetime.date.today()}, {size} (simulated, CSR, 8 groups, 3 batches), "
        f"{cores} cores ({platform.machine()}), load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}. "
        f"{kind} seconds, median of {options.rounds} process(es), no compile cache. Imports after anndata's: "
        + ", ".join(f"{tool} {seconds:.2f} s" for tool, seconds in imports.items())
        + f".\n\n{', '.join(versions)}\n"
    )


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=3_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=1, help="processes of each step and tool")
    parser.add_argument("--steps", nargs="+", help="only steps whose name contains one of these words")
    parser.add_argument("--tools", nargs="+", choices=["dbx", "scanpy"], default=["dbx", "scanpy"])
    parser.add_argument("--programs", action="store_true", help="list what JAX compiles in each first call")
    parser.add_argument("--kept", action="store_true", help="also the first call of a process with compiled code kept")
    parser.add_argument(
        "--processor",
        dest="clock",
        action="store_const",
        const="process_time",
        default="perf_counter",
        help="seconds of all processors instead of wall time, for a busy machine",
    )
    parser.add_argument("--inputs", type=Path, help="a folder that keeps the cells for the next run")
    parser.add_argument("--out", type=Path, help="write the table here too")
    options = parser.parse_args()
    names = [step for step in STEPS if not options.steps or any(word in step for word in options.steps)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.inputs or Path(scratch)
        if not (folder / "placed.h5ad").exists():
            folder.mkdir(exist_ok=True)
            sizes = [str(options.cells), str(options.genes)]
            subprocess.run(
                [sys.executable, "-m", "benchmarks.first_calls.inputs", folder, *sizes], check=True, cwd=ROOT
            )
        found: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for step in names:
            found[step] = {
                tool: [ask(tool, step, folder, options.clock) for _ in range(options.rounds)]
                for tool in tools_of(step, options)
            }
            if options.kept and "dbx" in found[step] and found[step]["dbx"][0]["programs"]:
                with tempfile.TemporaryDirectory() as cache:
                    kept = [ask("dbx", step, folder, options.clock, cache) for _ in range(1 + options.rounds)]
                found[step]["kept"] = kept[1:]
            print(table({step: found[step]}).splitlines()[-1], file=sys.stderr, flush=True)
            if options.programs:
                print(listed(found[step]["dbx"][0]["programs"]), file=sys.stderr, flush=True)
            if options.out:
                write(options.out, f"{table(found)}\n\n{conditions(options, found)}")
    print(f"{table(found)}\n\n{conditions(options, found)}")


def write(file: Path, text: str) -> None:
    """Replace what stands between the two marks of a file, or all of it if it has none."""
    before, begin, rest = (file.read_text() if file.exists() else "").partition(BEGIN)
    after = rest.partition(END)[2] if begin else "\n"
    file.write_text(f"{before if begin else ''}{BEGIN}\n\n{text}\n{END}{after}")


def tools_of(step: str, options: argparse.Namespace) -> list[str]:
    """The tools that have the call."""
    has_peer = len(STEPS[step]) > 2 or STEPS[step][1].startswith("tool.")
    return [tool for tool in options.tools if tool == "dbx" or has_peer]


if __name__ == "__main__":
    main()
