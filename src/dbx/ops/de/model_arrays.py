"""Arrays and facts that are kept of fitted models, an axis of models first."""

from __future__ import annotations

from typing import Any

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.de.design.tables import Table
from dbx.ops.de.fit_table import Found

GOLDEN = (5**0.5 - 1) / 2


def checksum(counts: RowBlocks) -> np.ndarray:
    """Sums of each gene's counts with a weight for each row, which no change of counts or rows leaves as they are.

    Array of shape (n_genes,). The program looks at some rows of large matrices, and at none on disk.
    """
    weights = 1 + np.arange(1, counts.n_rows + 1) * GOLDEN % 1
    total = np.zeros(counts.n_columns)
    for start, stop, part in counts.parts():
        total += np.asarray(weights[start:stop] @ part)
    return total


def padded(values: np.ndarray, width: int, axes: tuple[int, ...]) -> np.ndarray:
    """Some axes lengthened to ``width`` with NaN."""
    pads = [(0, width - values.shape[axis]) if axis in axes else (0, 0) for axis in range(values.ndim)]
    return np.pad(values, pads, constant_values=np.nan)


def stacked(found: list[Found], names: tuple[str, ...]) -> np.ndarray:
    """Statistics of all models, an array of shape (n_models, n_genes, n_names)."""
    return np.stack([np.stack([each.statistics[name] for name in names], axis=-1) for each in found])


def sample_facts(table: Table, factors: np.ndarray) -> dict[str, Any]:
    """Names, cells and size factors of summed samples."""
    if table.samples is None or table.n_cells is None:
        return {"samples": None}
    return {"samples": list(table.samples), "n_cells": table.n_cells.tolist(), "size_factors": factors.tolist()}
