"""Tables and figure of the measured steps."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

from benchmarks.scaling.steps import RERUN

PACKAGES = ["dbx-bio", "jax", "flax", "scanpy", "anndata", "igraph", "numpy", "scipy"]
Found = dict[tuple[str, int], dict[str, Any]]


def steps_and_sizes(found: Found) -> tuple[list[str], list[int]]:
    """In order of the workflow, and smallest first."""
    return list(dict.fromkeys(step for step, _ in found)), sorted({n for _, n in found})


def of_counts(found: Found, n: int) -> float:
    """Megabytes (2**20) of the counts as CSR: a float and an index for every value, a pointer for every cell."""
    return (8 * max(found[step, m]["nnz"] for step, m in found if m == n) + 4 * (n + 1)) / 2**20


def without_counts(found: Found, step: str, n: int) -> float:
    """Peak memory of the process of a step, less the counts if it reads them."""
    result = found[step, n]
    return result["process"] - (of_counts(found, n) if result["nnz"] else 0)


def tables(found: Found) -> str:
    """Wall and processor seconds with exponents, and memory."""
    wall = of_time(found, "wall", "wall seconds of the first call")
    return f"{wall}\n\n{of_time(found, 'cpu', 'processor seconds')}\n\n{of_memory(found)}"


def of_time(found: Found, clock: str, title: str) -> str:
    steps, sizes = steps_and_sizes(found)
    heads = [f"{n:,}" for n in sizes]
    rows = [[title, *heads, *(f"{a} to {b}" for a, b in pairwise(heads))]]
    rows += [[step, *by_size([found[step, n][clock] for n in sizes], sizes)] for step in steps]
    total = [sum(found[step, n][clock] for step in steps if step != RERUN) for n in sizes]
    return markdown([*rows, bold(["sum of the workflow", *by_size(total, sizes)])])


def of_memory(found: Found) -> str:
    steps, sizes = steps_and_sizes(found)
    rows = [["MB above what was held before the call", *(f"{n:,}" for n in sizes)]]
    rows += [[step, *(f"{found[step, n]['memory']:,.0f}" for n in sizes)] for step in steps]
    workflow = [step for step in steps if step != RERUN]
    peaks = [max(found[step, n]["process"] for step in workflow) for n in sizes]
    rows.append(bold(["largest process", *(f"{peak:,.0f}" for peak in peaks)]))
    above = [max(without_counts(found, step, n) for step in workflow) for n in sizes]
    rows.append(bold(["largest process, without counts that it holds", *(f"{more:,.0f}" for more in above)]))
    return markdown(rows)


def by_size(seconds: list[float], sizes: list[int]) -> list[str]:
    """Seconds, and between neighbouring sizes the exponent with which they grow."""
    grows = [log(b / a) / log(n / m) for (a, b), (m, n) in zip(pairwise(seconds), pairwise(sizes), strict=True)]
    return [f"{s:.1f}" for s in seconds] + [f"{exponent:.2f}" for exponent in grows]


def bold(row: list[str]) -> list[str]:
    return [f"**{cell}**" for cell in row]


def markdown(rows: list[list[str]]) -> str:
    """The first row is the head."""
    rows = [rows[0], ["---"] + ["---:"] * (len(rows[0]) - 1), *rows[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def conditions(found: Found) -> str:
    """Date, machine, load, versions, and what the results are worth."""
    steps, sizes = steps_and_sizes(found)
    cores = len(os.sched_getaffinity(0))
    loads = [result["load"] for result in found.values()]
    versions = []
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    values = round(max(result["nnz"] for result in found.values()) / sizes[-1])
    scores = [
        f"{step}: " + ", ".join(f"{found[step, n]['score']:.3f}" for n in sizes)
        for step in steps
        if "score" in found[step, sizes[0]]
    ]
    machine = f"{cores} cores ({platform.machine()}), Python {platform.python_version()}"
    return (
        f"Recall of the neighbours and adjusted Rand index of the clusters with the simulated groups, by size: "
        f"{'; '.join(scores)}.\n\n"
        f"{datetime.date.today()}, simulated counts of 2,000 genes, {values} nonzero values a cell, 12 groups, 3 "
        f"batches, CSR; {machine}. Load at the end of a step: "
        f"{min(loads):.1f} to {max(loads):.1f}.\n\n{', '.join(versions)}\n"
    )


def draw(found: Found, file: Path) -> None:
    """Processor seconds and memory by the number of cells, on logarithmic axes; dashed: in proportion to the cells."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    steps, sizes = steps_and_sizes(found)
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, key, label in zip(
        figure.subplots(1, 2),
        ("cpu", "memory"),
        ("Processor seconds of the first call", "MB above the start"),
        strict=True,
    ):
        for step in steps:
            axes.plot(sizes, [found[step, n][key] for n in sizes], marker="o", markersize=4, label=step)
        largest = max(found[step, sizes[-1]][key] for step in steps)
        linear = [largest * n / sizes[-1] for n in sizes]
        axes.plot(sizes, linear, color="grey", linestyle="--", linewidth=1, label="linear")
        axes.set(xscale="log", yscale="log", xlabel="Cells", ylabel=label)
        axes.set_xticks(sizes, [f"{n // 1000:,}k" for n in sizes])
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_formatter(NullFormatter())
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    figure.savefig(file, dpi=120)
