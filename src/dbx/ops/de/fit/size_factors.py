"""Size factors of samples by the median of ratios, as DESeq2 takes them."""

from __future__ import annotations

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import array_library
from dbx.ops.de.glm.rounding import exp

PRESENT = 0.5
"""A count is there from here on: halfway between none and one."""


def references_and_factors(counts: RowBlocks, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Log of each gene's typical count, NaN for genes that do not enter the median, and the samples' size factors.

    Arrays of shape (n_genes,) and (n_samples,).

    ``"ratio"`` is the geometric mean over all samples, of genes without a zero (Anders and Huber, Genome Biology,
    2010); ``"poscounts"`` takes the logs of the positive counts alone, divides by all samples, and scales so that the
    geometric mean of the factors is one (DESeq2: Love, Huber and Anders, Genome Biology, 2014).

    Raises
    ------
    ValueError
        Every gene has a zero, or a sample has no count in any of the genes.
    """
    # R sums in extended precision too; the last bit decides where some searches of dispersions end
    logs, present = np.zeros(counts.n_columns, np.longdouble), np.zeros(counts.n_columns, np.int64)
    for _, _, part in counts.parts():
        if isinstance(part, np.ndarray):
            there = part >= PRESENT
            logs += np.log(np.where(there, part, 1), dtype=np.float64).sum(axis=0, dtype=np.longdouble)
            present += there.sum(axis=0)
        else:
            kept = part.data >= PRESENT
            at = part.indices[kept]
            logs += np.bincount(at, np.log(part.data[kept].astype(np.float64)), minlength=len(logs))
            present += np.bincount(at, minlength=len(logs))
    usable = present == counts.n_rows if kind == "ratio" else present > 0
    if not usable.any():
        msg = (
            "Every gene has a zero in some cell, so there is no median of ratios. "
            'Use size_factors="poscounts", or name a column of obs with size factors of your own.'
        )
        raise ValueError(msg)
    references = np.where(usable, (logs / counts.n_rows).astype(np.float64), np.nan)
    factors = size_factors(counts, references)
    if kind == "poscounts":
        level = np.log(factors).mean()
        return references + level, factors / np.exp(level)
    return references, factors


def log_references(counts: RowBlocks, kind: str) -> np.ndarray:
    """The references of :func:`references_and_factors` alone."""
    return references_and_factors(counts, kind)[0]


def size_factors(counts: RowBlocks, references: np.ndarray) -> np.ndarray:
    """Size factor of every sample, an array of shape (n_samples,)."""
    parts = [median_of_ratios(counts.dense(slice(start, stop)), references) for start, stop, _ in _spans(counts)]
    factors = np.concatenate(parts)
    empty = np.flatnonzero(~np.isfinite(factors))
    if len(empty):
        msg = f"{len(empty)} cells have no counts at all (the first is number {empty[0]}): filter them out first."
        raise ValueError(msg)
    return factors


def median_of_ratios(counts, references):
    """Median over a sample's positive counts of their ratio to the references, an array of shape (n_samples,).

    ``counts`` of shape (n_samples, n_genes) is a NumPy or JAX array; NaN where a sample has none of the genes.
    """
    xp = array_library(counts)
    counts = counts.astype(np.float64) if xp is np else counts
    references = xp.asarray(references, counts.dtype)
    there = (counts >= PRESENT) & ~xp.isnan(references)
    ratios = xp.sort(xp.where(there, xp.log(xp.where(there, counts, 1)) - references, xp.inf), axis=1)
    n_there = there.sum(axis=1, keepdims=True)
    middle = [xp.take_along_axis(ratios, xp.maximum(at, 0), axis=1) for at in ((n_there - 1) // 2, n_there // 2)]
    median = (exp if xp is np else xp.exp)(((middle[0] + middle[1]) / 2)[:, 0])
    return xp.where(n_there[:, 0] > 0, median, xp.nan)


def _spans(counts: RowBlocks):
    size = counts.block_rows
    for start in range(0, counts.n_rows, size):
        yield start, min(start + size, counts.n_rows), size
