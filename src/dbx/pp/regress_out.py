"""Regression of genes on columns of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.ops.checks import as_names
from dbx.ops.normalization.regress_out import RegressOut
from dbx.program import Slot, matrix_slot, read, run_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData


def regress_out(
    adata: AnnData | MuData,
    keys: str | Sequence[str],
    *,
    layer: str | None = None,
    n_jobs: int | None = None,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Replace each gene by its residuals after linear regression on columns of ``adata.obs``.

    The coefficients are kept with the step: ``dbx.rerun`` subtracts from new cells what those of the reference predict.
    As :func:`scanpy.pp.regress_out`, after Seurat's RegressOut (Satija et al., Nature Biotechnology 2015); solved for
    all genes at once, by blocks of cells.

    Parameters
    ----------
    adata
        Cells by genes, usually logarithms of normalised counts.
    keys
        Numeric columns of ``adata.obs``, which are fitted by least squares with an intercept, or one categorical
        column, of which each gene's category mean is subtracted.
    layer
        Layer to use instead of ``X``.
    n_jobs
        Accepted for compatibility with scanpy; has no effect.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Sets:

    ``adata.X`` | ``adata.layers[layer]``
        Residuals, dense. A gene with the same value in all cells becomes 0; with a categorical column it is left
        unchanged. As in scanpy, a categorical column or 64-bit integers give float64, other integers float32.

    Raises
    ------
    ValueError
        A column has missing or infinite values, or there is a categorical column beside others.
    """
    columns = as_names(keys, "keys")
    if not columns:
        msg = 'keys must name columns of adata.obs, e.g. ["total_counts", "pct_counts_mt"]; got none.'
        raise ValueError(msg)
    slot = matrix_slot(layer)
    wide = gives_float64(adata, Slot.parse(slot, mod), [Slot.parse(f"obs/{name}", mod) for name in columns])
    return run_step(
        adata,
        RegressOut(dtype="float64" if wide else None),
        reads={"x": slot, "keys": [f"obs/{name}" for name in columns]},
        writes={"x": slot},
        copy=copy,
        mod=mod,
    )


def gives_float64(data: AnnData | MuData, slot: Slot, columns: list[Slot]) -> bool:
    """Whether scanpy's result is in double precision."""
    dtype = np.dtype(read(data, slot).dtype)
    categorical = any(not is_numeric(read(data, column)) for column in columns)
    return categorical or (dtype.kind in "iu" and dtype.itemsize > 4)


def is_numeric(column: pd.Series) -> bool:
    """Whether a column holds measurements."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
