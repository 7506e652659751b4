"""dbx.pp.vae_normalize beside scvi-tools: ``python -m benchmarks.vae --peer PYTHON NAME=FILE:EPOCHS ...``."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import anndata as ad
import numpy as np
from benchmarks.vae.quality import mixing

ROOT = Path(__file__).parents[2]
LIKELIHOODS = ("zinb", "nb", "poisson")
QUALITY = {"nll": "held-out NLL", "elbo": "-ELBO", "ilisi": "iLISI", "clisi": "cLISI"}
SPEED = {
    "epoch_cpu": "CPU s per epoch",
    "epoch_wall": "wall s per epoch",
    "first": "first result, wall s",
    "memory": "MB above the data",
    "process": "MB of the process",
}


def ask(python: str, *words) -> dict:
    """One training in a process of its own that finds no compiled code."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION_CACHE")}
    command = [python, "-m", "benchmarks.vae.worker", *map(str, words)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        msg = f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}"
        raise RuntimeError(msg)
    return json.loads(done.stdout.splitlines()[-1])


def judged(python: str, tool: str, file: Path, likelihood: str, epochs: int, seed: int, folder: Path) -> dict:
    """Held-out likelihood and mixing of one training."""
    latent = folder / "latent.npy"
    result = ask(python, tool, file, likelihood, epochs, seed, latent)
    return result | mixing(np.load(latent), ad.read_h5ad(file).obs)


def rows_of(found: dict[tuple, list[dict]], columns: dict[str, str]) -> list[str]:
    """A Markdown table: means over the runs, and in brackets the ratio of dbx to its peer."""
    lines = ["| | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 1) + "|"]
    for (name, likelihood, tool), runs in found.items():
        cells = []
        for column in columns:
            mean, peer = np.mean([run[column] for run in runs]), found.get((name, likelihood, "scvi-tools"))
            ratio = mean / np.mean([run[column] for run in peer]) if peer and tool == "dbx" else None
            digits = 1 if mean >= 100 else 3
            cells.append(f"{mean:.{digits}f}" + (f" ({ratio:.3f})" if ratio else ""))
        lines.append(f"| {name}, {likelihood}, {tool} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Train both tools on every set with every likelihood, one after the other, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", help="NAME=FILE:EPOCHS; counts in X, obs batch and label")
    parser.add_argument("--peer", help="Python of an environment with scvi-tools")
    parser.add_argument("--task", choices=("quality", "speed"), default="quality")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--likelihoods", nargs="+", default=LIKELIHOODS)
    parser.add_argument("--keep", type=Path, help="a JSON line for each training; those there are not repeated")
    options = parser.parse_args()
    tools = {"dbx": sys.executable} | ({"scvi-tools": options.peer} if options.peer else {})
    lines = options.keep.read_text().splitlines() if options.keep and options.keep.exists() else []
    known = {tuple(key): result for key, result in map(json.loads, lines)}
    found = defaultdict(list)
    for one in options.sets:
        name, _, place = one.partition("=")
        file, _, epochs = place.rpartition(":")
        for likelihood in options.likelihoods:
            for seed in range(options.seeds if options.task == "quality" else 1):
                for tool, python in tools.items():
                    key = (options.task, name, likelihood, tool, int(epochs), seed)
                    if key not in known:
                        with tempfile.TemporaryDirectory() as folder:
                            words = (tool, Path(file).resolve(), likelihood, int(epochs), seed)
                            is_quality = options.task == "quality"
                            known[key] = judged(python, *words, Path(folder)) if is_quality else ask(python, *words)
                        if options.keep:
                            with options.keep.open("a") as kept:
                                kept.write(json.dumps([key, known[key]]) + "\n")
                    found[name, likelihood, tool].append(known[key])
    print("\n".join(rows_of(found, QUALITY if options.task == "quality" else SPEED)))


if __name__ == "__main__":
    main()
