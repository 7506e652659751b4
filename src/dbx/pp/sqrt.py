"""Square root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.ops.normalization.sqrt import Sqrt
from dbx.pp._arrays import is_array, on_array, refuse_for_arrays
from dbx.program import is_on_disk, run_on_disk, run_step

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData
    from scipy.sparse import csc_matrix, csr_matrix


def sqrt(
    data: AnnData | MuData | np.ndarray | csr_matrix | csc_matrix,
    *,
    copy: bool = False,
    chunked: bool = False,
    chunk_size: int | None = None,
    mod: str | None = None,
) -> AnnData | MuData | np.ndarray | csr_matrix | csc_matrix | None:
    """Take the square root of each value.

    As :func:`scanpy.pp.sqrt`.

    Parameters
    ----------
    data
        Values of cells by genes, none below 0; dense, sparse or (staying lazy) dask, or backed with ``"r+"``: then X
        changes in its file. The square roots of a plain array are returned, and no step is recorded.
    copy
        Work on a copy and return it.
    chunked, chunk_size
        Number of cells that are read at a time from a file. Otherwise they have no effect: dbx always works by blocks.
    mod
        Modality of a MuData.

    Returns
    -------
    None, the copy if ``copy=True``, or the square roots where an array was given. Sets:

    ``adata.X``
        Square roots; integers become floating-point numbers. Sparse stays sparse, as CSR.
    """
    if is_array(data):
        refuse_for_arrays(chunk_size=chunk_size, mod=mod)
        return on_array(Sqrt(), data, copy=True)
    if not copy and is_on_disk(data, "X", mod):
        run_on_disk(data, Sqrt(), "X", n_rows=chunk_size, each_value_alone=True, mod=mod)
        return None
    return run_step(data, Sqrt(), reads={"x": "X"}, writes={"x": "X"}, copy=copy, mod=mod)
