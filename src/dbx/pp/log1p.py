"""Logarithm of one plus the value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.ops.normalization.log1p import Log1p
from dbx.pp._arrays import is_array, on_array, refuse_for_arrays
from dbx.pp._renamed import renamed_first
from dbx.program import Slot, exists, is_on_disk, matrix_slot, owner_written, run_on_disk, run_step
from dbx.program.log import warn

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData
    from scipy.sparse import csc_matrix, csr_matrix


@renamed_first("X", "data")
def log1p(
    data: AnnData | MuData | np.ndarray | csr_matrix | csc_matrix,
    *,
    base: float | None = None,
    copy: bool = False,
    chunked: bool | None = None,
    chunk_size: int | None = None,
    layer: str | None = None,
    obsm: str | None = None,
    mod: str | None = None,
) -> AnnData | MuData | np.ndarray | csr_matrix | csc_matrix | None:
    """Take the logarithm of one plus each value.

    As :func:`scanpy.pp.log1p`.

    Parameters
    ----------
    data
        Values of cells by genes, none below -1; dense, sparse or (staying lazy) dask, or backed with ``"r+"``: then X
        changes in its file. A plain array is transformed and returned, and no step is recorded.
    base
        Base of the logarithm; None is the natural one.
    copy
        Work on a copy and return it.
    chunked, chunk_size
        Number of cells that are read at a time from a file. Otherwise they have no effect: dbx always works by blocks.
    layer
        Layer to transform instead of ``X``.
    obsm
        Array of ``adata.obsm`` to transform instead of ``X``.
    mod
        Modality of a MuData.

    Returns
    -------
    None, the copy if ``copy=True``, or the transformed array where an array was given. Sets:

    ``adata.X`` | ``adata.layers[layer]`` | ``adata.obsm[obsm]``
        Logarithms; integers become float32. Sparse stays sparse, as CSR.
    ``adata.uns['log1p']['base']``
        The base.

    Raises
    ------
    NotImplementedError
        ``chunked`` together with ``layer`` or ``obsm``; data of a file that was opened read-only.
    """
    operator = Log1p(base=base)
    if is_array(data):
        refuse_for_arrays(chunked=chunked, chunk_size=chunk_size, layer=layer, obsm=obsm, mod=mod)
        return on_array(operator, data, copy=copy)
    if chunked and (layer is not None or obsm is not None):
        msg = "`chunked` works on X only, not on `layer` or `obsm`: leave it out, dbx always works by blocks."
        raise NotImplementedError(msg)
    if exists(data, Slot.parse("uns/log1p", mod)):
        warn(f"{owner_written(mod)}.X seems to be already log-transformed.")
    slot, about = matrix_slot(layer, obsm), {"uns/log1p": {"base": base}}
    if not copy and is_on_disk(data, slot, mod):
        run_on_disk(data, operator, slot, constants=about, n_rows=chunk_size, each_value_alone=True, mod=mod)
        return None
    return run_step(
        data,
        operator,
        reads={"x": slot},
        writes={"x": slot},
        constants=about,
        copy=copy,
        mod=mod,
    )
