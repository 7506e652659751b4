"""Genes kept by their counts or the number of cells they are detected in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.ops.quality.filter_genes import FilterGenes
from dbx.ops.quality.thresholds import check_one_threshold
from dbx.pp._arrays import is_array, refuse_for_arrays
from dbx.pp.filter_cells import as_tuple
from dbx.program import check_removable, compute_array, compute_step, run_step

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData
    from scipy.sparse import csc_matrix, csr_matrix


def filter_genes(
    data: AnnData | MuData | np.ndarray | csr_matrix | csc_matrix,
    *,
    min_counts: int | None = None,
    min_cells: int | None = None,
    max_counts: int | None = None,
    max_cells: int | None = None,
    inplace: bool = True,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | tuple[np.ndarray, np.ndarray] | None:
    """Remove genes with too few or too many counts or cells.

    The names of the genes that are kept are recorded: ``dbx.rerun(query, reference, filter_cells=True)`` keeps the same
    genes of new cells. As :func:`scanpy.pp.filter_genes`.

    Parameters
    ----------
    data
        Counts of cells by genes; dense, sparse or dask. Of a plain array the mask is returned.
    min_counts, max_counts
        Fewest or most counts of a gene. Only one of the four thresholds per call.
    min_cells, max_cells
        Fewest or most cells in which the gene is above zero.
    inplace
        Remove genes; otherwise return the mask and the numbers, and write nothing.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData: genes are removed from this modality.

    Returns
    -------
    None, the copy if ``copy=True``, or with ``inplace=False`` and for plain arrays (whether each gene is kept, its
    counts or number of cells). Sets:

    ``adata.var['n_counts']`` | ``adata.var['n_cells']``
        Counts or number of cells of each gene, whichever has the threshold.

    Raises
    ------
    ValueError
        No threshold or several were given, or no gene passes; nothing is removed.
    """
    thresholds = {"min_counts": min_counts, "min_cells": min_cells, "max_counts": max_counts, "max_cells": max_cells}
    check_one_threshold(**thresholds)
    operator = FilterGenes(**thresholds)
    key = "n_counts" if operator.by_counts else "n_cells"
    if is_array(data):
        refuse_for_arrays(mod=mod)
        return as_tuple(compute_array(operator, x=data), key)
    if not inplace:
        return as_tuple(compute_step(data, operator, reads={"x": "X"}, mod=mod), key)
    if not copy:
        check_removable(data, mod)
    return run_step(data, operator, reads={"x": "X"}, writes={key: f"var/{key}"}, copy=copy, mod=mod, cut=True)
