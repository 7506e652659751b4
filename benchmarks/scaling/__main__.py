"""The workflow from ten thousand cells to a million: ``python -m benchmarks.scaling --out benchmarks/scaling.md``.

Every step runs in a process of its own, without compiled code of an earlier one, and reads from a file what the steps
before it wrote there, only the slots that it needs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.scaling.report import conditions, draw, tables
from benchmarks.scaling.steps import STEPS

ROOT = Path(__file__).parents[2]


def ask(module: str, *words: object) -> str:
    """What a process of its own prints."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION_CACHE")}
    with tempfile.TemporaryDirectory() as scratch:
        environment["NUMBA_CACHE_DIR"] = scratch
        command = [sys.executable, "-m", f"benchmarks.scaling.{module}", *map(str, words)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        msg = f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}"
        raise RuntimeError(msg)
    return done.stdout


def measured(sizes: list[int], folder: Path, keep: Path | None) -> dict[tuple[str, int], dict[str, Any]]:
    """Every step at every size; those in the file ``keep`` are not repeated."""
    lines = keep.read_text().splitlines() if keep and keep.exists() else []
    found = {(step, n): result for step, n, result in map(json.loads, lines)}
    for n in sizes:
        if (next(iter(STEPS)), n) not in found:
            if not (folder / f"counts_{n}.h5ad").exists():
                ask("inputs", folder, n)
            shutil.copy(folder / f"counts_{n}.h5ad", folder / f"cells_{n}.h5ad")
        for step in STEPS:
            if (step, n) in found:
                continue
            found[step, n] = json.loads(ask("worker", step, folder, n).splitlines()[-1])
            print(n, step, found[step, n], file=sys.stderr, flush=True)
            if keep:
                with keep.open("a") as file:
                    file.write(json.dumps([step, n, found[step, n]]) + "\n")
    return {(step, n): result for (step, n), result in found.items() if n in sizes}


def main() -> None:
    """Run the workflow at every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", type=int, default=[10_000, 100_000, 300_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="a folder that keeps the cells: 7 GB for a million")
    parser.add_argument("--keep", type=Path, help="a JSON line for each step and size; those there are not repeated")
    parser.add_argument("--out", type=Path, help="write the tables here too, and beside them the figure, as PNG")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(exist_ok=True)
        found = measured(options.sizes, folder, options.keep)
    text = f"{tables(found)}\n\n{conditions(found)}"
    print(text)
    if options.out:
        options.out.write_text(text)
        draw(found, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
