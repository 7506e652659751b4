"""dbx.tl.de beside R DESeq2 and pydeseq2.

python -m benchmarks.deseq2 agreement PATH    # PATH: R's results, airway/ and synth/ below it
python -m benchmarks.deseq2 speed --airway PATH/airway --pydeseq2 PYTHON --rscript RSCRIPT
python -m benchmarks.deseq2 fresh --rscript RSCRIPT
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import re
import sys
import warnings
from pathlib import Path

PACKAGES = ("dbx-bio", "jax", "numpy", "scipy", "pandas", "anndata")


def conditions() -> str:
    """Date, machine and versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in PACKAGES)
    return (
        f"{datetime.date.today()}, {cores} cores ({platform.machine()}), load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, {versions}."
    )


def put(file: Path, title: str, text: str) -> None:
    """Replace the section with this title, or add it."""
    section = f"## {title}\n\n{text}\n"
    old = file.read_text() if file.exists() else "# dbx beside DESeq2\n"
    pattern = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    if pattern.search(old):
        new = pattern.sub(lambda found: section + ("\n" if found.end() < len(old) else ""), old)
    else:
        new = f"{old.rstrip()}\n\n{section}"
    file.write_text(new)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    agreement = commands.add_parser("agreement", help="every number that R returned")
    agreement.add_argument("folder", type=Path, help="R's results: airway/ and synth/ below it")
    fresh = commands.add_parser("fresh", help="simulated sets of many designs, analysed by R in the same run")
    fresh.add_argument("--seed", type=int, default=0)
    speed = commands.add_parser("speed", help="time and memory beside pydeseq2 and R")
    speed.add_argument("--airway", type=Path, help="folder with the airway counts, coldata and meta.json")
    speed.add_argument("--pydeseq2", default=sys.executable, metavar="PYTHON", help="a Python that has pydeseq2")
    speed.add_argument("--rounds", type=int, default=1, help="fresh processes of each tool; medians are shown")
    for command in (fresh, speed):
        command.add_argument("--rscript", default="Rscript", help="an Rscript that has DESeq2 and jsonlite")
        command.add_argument(
            "--only", nargs="+", metavar="WORD", help="only jobs whose name contains one of these words"
        )
    for command in (agreement, fresh, speed):
        command.add_argument("--out", type=Path, help="write the section to this file as well")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    beyond = []
    if options.command == "agreement":
        from benchmarks.deseq2.agreement import report

        text, beyond = report(options.folder)
        text += (
            "\n\nAbove the tolerance on airway, except where R's optimisers stop early: "
            + ("; ".join(beyond) if beyond else "nothing")
            + "."
        )
    elif options.command == "fresh":
        from benchmarks.deseq2.fresh import report

        text = report(options.rscript, options.seed, options.only)
    else:
        from benchmarks.deseq2.speed import report

        text = report(options.airway, options.pydeseq2, options.rscript, options.rounds, options.only)
    text += f"\n\n{conditions()}"
    print(text)
    if options.out:
        put(options.out, options.command.capitalize(), text)
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
