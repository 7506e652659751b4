"""Cells kept by their counts or their number of genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.ops.quality.filter_cells import FilterCells
from dbx.ops.quality.thresholds import check_one_threshold
from dbx.pp._arrays import is_array, refuse_for_arrays
from dbx.program import check_removable, compute_array, compute_step, run_step
from dbx.program.log import info

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from scipy.sparse import csc_matrix, csr_matrix


def filter_cells(
    data: AnnData | MuData | np.ndarray | csr_matrix | csc_matrix,
    *,
    min_counts: int | None = None,
    min_genes: int | None = None,
    max_counts: int | None = None,
    max_genes: int | None = None,
    inplace: bool = True,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | tuple[np.ndarray, np.ndarray] | None:
    """Remove cells with too few or too many counts or genes.

    The threshold is kept with the step: ``dbx.rerun(query, reference, filter_cells=True)`` removes new cells that do
    not pass; without it they are marked in ``obs["dbx_passed"]``. As :func:`scanpy.pp.filter_cells`.

    Parameters
    ----------
    data
        Counts of cells by genes; dense, sparse or dask. Of a plain array the mask is returned.
    min_counts, max_counts
        Fewest or most counts of a cell. Only one of the four thresholds per call.
    min_genes, max_genes
        Fewest or most genes above zero.
    inplace
        Remove cells; otherwise return the mask and the numbers, and write nothing.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData: cells are removed from this modality.

    Returns
    -------
    None, the copy if ``copy=True``, or with ``inplace=False`` and for plain arrays (whether each cell is kept, its
    counts or number of genes). Sets:

    ``adata.obs['n_counts']`` | ``adata.obs['n_genes']``
        Counts or number of genes of each cell, whichever has the threshold.

    Raises
    ------
    ValueError
        No threshold or several were given, or no cell passes; nothing is removed.
    """
    thresholds = {"min_counts": min_counts, "min_genes": min_genes, "max_counts": max_counts, "max_genes": max_genes}
    check_one_threshold(**thresholds)
    operator = FilterCells(**thresholds)
    key = "n_counts" if operator.by_counts else "n_genes"
    if is_array(data):
        refuse_for_arrays(mod=mod)
        return as_tuple(compute_array(operator, x=data), key)
    if not inplace:
        return as_tuple(compute_step(data, operator, reads={"x": "X"}, mod=mod), key)
    if not copy:
        check_removable(data, mod)
    return run_step(data, operator, reads={"x": "X"}, writes={key: f"obs/{key}"}, copy=copy, mod=mod, cut=True)


def as_tuple(outputs: dict[str, Any], key: str) -> tuple[np.ndarray, np.ndarray]:
    """What scanpy returns for ``inplace=False``: (whether each passes, its number)."""
    passed, number = (np.asarray(outputs[name]) for name in ("passed", key))
    info(f"{int((~passed).sum())} of {len(passed)} do not pass")
    return passed, number
