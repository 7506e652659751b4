"""Variance of counts beyond what their mean predicts: Seurat v3's ranking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.csr import CHUNK
from dbx.data.moments import Moments, grouped_rows


def expected_sd(mean: np.ndarray, variance: np.ndarray, span: float, cells: str = "the cells") -> np.ndarray:
    """Standard deviation that a local quadratic fit of log variance on log mean predicts.

    An array of shape (n_genes,). Where means tie, rounding errors of the inputs change the fit: these are exact.

    Raises
    ------
    ValueError
        The fit is singular; ``cells`` describes the cells in the message.
    """
    varies = variance > 0
    fitted = np.zeros(len(mean))
    if varies.any():
        x, y = np.log10(mean[varies]), np.log10(variance[varies])
        try:
            fitted[varies] = _local_quadratic(x, y, span)
        except ValueError as error:
            msg = (
                f"The local regression of variance on mean is singular in {cells}: {varies.sum()} genes vary, with "
                f"{len(np.unique(x))} different means. Raise span (now {span}), merge or drop batches of few cells, "
                "or flag genes by flavor='seurat' on log-normalised values."
            )
            raise ValueError(msg) from error
    return np.sqrt(10**fitted)


def _local_quadratic(x: np.ndarray, y: np.ndarray, span: float) -> np.ndarray:
    from skmisc.loess import loess

    if len(x) * span < 1:  # loess would read beyond its points
        msg = "no gene is in reach of another"
        raise ValueError(msg)
    model = loess(x, y, span=span, degree=2)
    model.fit()
    fitted = model.outputs.fitted_values
    if not np.isfinite(fitted).all():
        msg = "fitted values are not finite"
        raise ValueError(msg)
    return fitted


def normalized_variances(
    x: RowBlocks, codes: np.ndarray | None, groups: Moments, span: float, names: Sequence[str] | None = None
) -> np.ndarray:
    """Variance of the standardised counts, clipped at the square root of the number of cells.

    An array of shape (n_groups, n_genes), float64; ``names`` are those of the groups.
    """
    count, mean = groups.count[:, None], groups.mean
    batches = [""] if names is None else [f"batch {name!r}, " for name in names]
    cells = [f"{batch}{int(n)} cells" for batch, n in zip(batches, groups.count, strict=True)]
    of_groups = zip(mean, groups.variance, cells, strict=True)
    sd = np.stack([expected_sd(of_mean, variance, span, text) for of_mean, variance, text in of_groups])
    limit = sd * np.sqrt(count) + mean
    excess = np.zeros(mean.shape)
    for group, rows in grouped_rows(x, codes):
        values, columns = _above(rows, limit[group])
        centre, cut = mean[group][columns], limit[group][columns]
        excess[group] += np.bincount(columns, (values - centre) ** 2 - (cut - centre) ** 2, minlength=x.n_columns)
    return (groups.variance - excess / np.maximum(count - 1, 1)) / sd**2


def _above(rows, limit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values above their column's limit, in float64, and their columns."""
    if sparse.issparse(rows):
        places = [first + np.flatnonzero(values > limit.take(columns)) for first, values, columns in _chunks(rows)]
        at = np.concatenate(places)
        return rows.data[at].astype(np.float64), rows.indices[at]
    at, columns = np.nonzero(rows > limit)
    return rows[at, columns].astype(np.float64), columns


def _chunks(rows: sparse.csr_matrix) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Stored values and their columns so few at a time that they stay in the processor's cache, after their place."""
    for first in range(0, max(rows.nnz, 1), CHUNK):
        yield first, rows.data[first : first + CHUNK], rows.indices[first : first + CHUNK]


def ranks_within(values: np.ndarray, n_top: int) -> np.ndarray:
    """Rank of each gene in each group, 0 for the highest, an array of shape (n_groups, n_genes); NaN beyond the top."""
    order = np.argsort(np.argsort(-values, axis=1), axis=1).astype(np.float32)
    order[order >= n_top] = np.nan
    return order
