"""Library-size normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.ops.checks import ZERO_COUNTS
from dbx.ops.normalization.normalize_total import NormalizeTotal
from dbx.program import check_key, compute_step, is_on_disk, matrix_slot, run_on_disk, run_step
from dbx.program.log import warn

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData
    from scipy.sparse import csr_matrix


def normalize_total(
    adata: AnnData | MuData,
    *,
    target_sum: float | None = None,
    exclude_highly_expressed: bool = False,
    max_fraction: float = 0.05,
    key_added: str | None = None,
    layer: str | None = None,
    obsm: str | None = None,
    inplace: bool = True,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | dict[str, np.ndarray | csr_matrix] | None:
    """Scale the counts of each cell to the same total.

    The total is kept with the step: ``dbx.rerun`` scales new cells to the total of the reference, and excludes the
    same highly expressed genes. As :func:`scanpy.pp.normalize_total`; the median is over cells that have counts, as in
    scanpy from 1.12 on.

    Parameters
    ----------
    adata
        Counts of cells by genes; dense, sparse or (staying lazy) dask, or backed with ``"r+"``: then X changes in its
        file.
    target_sum
        Total of each cell afterwards, in counts. None takes the median of the totals of cells that have any; 1e6 gives
        counts per million.
    exclude_highly_expressed
        Exclude from the totals genes that hold more than ``max_fraction`` of the counts of any cell
        (Weinreb et al., Bioinformatics 2018).
    max_fraction
        Fraction of a cell's counts above which a gene is excluded, between 0 and 1.
    key_added
        Column of ``adata.obs`` for each cell's total, as a multiple of ``target_sum``.
    layer
        Layer to normalise instead of ``X``.
    obsm
        Array of ``adata.obsm`` to normalise instead of ``X``.
    inplace
        Write into ``adata``; otherwise return the results and write nothing.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, the copy if ``copy=True``, or with ``inplace=False`` a dict of ``"X"`` and ``"norm_factor"``. Sets:

    ``adata.X`` | ``adata.layers[layer]`` | ``adata.obsm[obsm]``
        Normalised counts; integers become float32. Sparse stays sparse, as CSR.
    ``adata.obs[key_added]``
        Total of each cell over ``target_sum``.

    Raises
    ------
    ValueError
        The data are known to be logarithms or scaled, no cell has counts, or arguments contradict each other.
    """
    check_key(key_added)
    if copy and not inplace:
        msg = "`copy=True` cannot be used with `inplace=False`."
        raise ValueError(msg)
    if not 0 <= max_fraction <= 1:
        msg = f"Choose max_fraction between 0 and 1, not {max_fraction}."
        raise ValueError(msg)
    operator = NormalizeTotal(
        target_sum=target_sum, exclude_highly_expressed=exclude_highly_expressed, max_fraction=max_fraction
    )
    slot = matrix_slot(layer, obsm)
    writes = {"x": slot} | ({} if key_added is None else {"counts_per_cell": f"obs/{key_added}"})
    result: AnnData | MuData | dict[str, np.ndarray | csr_matrix] | None = None
    if inplace and not copy and is_on_disk(adata, slot, mod):
        others = {name: place for name, place in writes.items() if name != "x"}
        run_on_disk(adata, operator, slot, writes=others, mod=mod)
    elif inplace:
        result = run_step(adata, operator, reads={"x": slot}, writes=writes, copy=copy, mod=mod)
    else:
        outputs = compute_step(adata, operator, reads={"x": slot}, mod=mod)
        result = {"X": outputs["x"], "norm_factor": outputs["counts_per_cell"]}
    if operator.n_empty[...] > 0:
        warn(ZERO_COUNTS)
    return result
