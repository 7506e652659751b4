"""Counts for the comparison of times: airway from a folder, and simulated cells of two groups."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.deseq2.reference import Reference
from scipy import sparse

LOWEST, HIGHEST = 0.05, 10.0
"""Means of genes are spread evenly over the logarithms between, so that a quarter is below 0.2."""
DISPERSION, DEPTH = 0.3, 0.3
"""Of the negative binomial distribution; standard deviation of the logarithms of size factors."""
N_CHANGED, FOLD = 200, 1.5
BLOCK = 2000


def two_groups(n_cells: int, n_genes: int = 2000, seed: int = 0) -> tuple[sparse.csr_matrix, pd.DataFrame, np.ndarray]:
    """(counts of cells by genes, groups, which genes change); cells are independent, half of them in each group."""
    rng = np.random.default_rng(seed)
    mean = np.exp(rng.uniform(np.log(LOWEST), np.log(HIGHEST), n_genes))
    change = np.zeros(n_genes)
    change[:N_CHANGED] = np.log(FOLD) * rng.choice([-1, 1], N_CHANGED)
    group = np.arange(n_cells) % 2
    depth = np.exp(rng.normal(0, DEPTH, n_cells))
    parts = []
    for start in range(0, n_cells, BLOCK):
        cells = slice(start, start + BLOCK)
        mu = depth[cells, None] * mean * np.exp(np.outer(group[cells], change))
        parts.append(
            sparse.csr_matrix(rng.poisson(mu * rng.gamma(1 / DISPERSION, DISPERSION, mu.shape)).astype(np.float32))
        )
    samples = pd.DataFrame({"group": np.array(["A", "B"])[group]}, index=[f"c{i}" for i in range(n_cells)])
    return sparse.vstack(parts, format="csr"), samples, change != 0


def write_cells(folder: Path, n_cells: int) -> np.ndarray:
    """Write simulated cells; which genes change."""
    counts, samples, changed = two_groups(n_cells)
    _write(folder, counts, samples, {"group": ["A", "B"]}, "~ group", ["group", "B", "A"])
    return changed


def write_airway(folder: Path, reference: Reference) -> None:
    """Write the airway counts; the last factor of the design is tested."""
    levels, factor = reference.meta["levels"], reference.design.split("+")[-1].strip()
    counts = sparse.csr_matrix(reference.counts.to_numpy(np.float32).T)
    contrast = [factor, levels[factor][1], levels[factor][0]]
    _write(folder, counts, reference.samples.astype(str), levels, reference.design, contrast)


def _write(folder: Path, counts, samples: pd.DataFrame, levels: dict, design: str, contrast: list[str]) -> None:
    folder.mkdir()
    sparse.save_npz(folder / "counts.npz", counts, compressed=False)
    samples.to_csv(folder / "samples.csv")
    task = {"design": design, "levels": levels, "contrast": contrast, "shape": list(counts.shape)}
    (folder / "task.json").write_text(json.dumps(task))
    if counts.nnz < 1 << 24:  # for R: genes vary fastest
        counts.toarray().astype(np.int32).tofile(folder / "counts.bin")
