"""Standardise genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from dbx.data.kinds import is_sparse_dask
from dbx.ops.normalization.scale import Scale
from dbx.pp._arrays import is_array, on_array, refuse_for_arrays
from dbx.pp._renamed import renamed_first
from dbx.program import Slot, holder, matrix_slot, read, run_step
from dbx.program.log import warn

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from scipy.sparse import csr_matrix


@renamed_first("X", "data")
def scale(
    data: AnnData | MuData | np.ndarray | csr_matrix,
    *,
    zero_center: bool = True,
    max_value: float | None = None,
    copy: bool = False,
    layer: str | None = None,
    obsm: str | None = None,
    mask_obs: np.ndarray | str | None = None,
    mod: str | None = None,
) -> AnnData | MuData | np.ndarray | csr_matrix | None:
    """Shift each gene to mean zero and scale it to unit variance.

    Means and standard deviations (of n - 1) are kept with the step: ``dbx.rerun`` scales new cells with those of the
    reference. A gene that does not vary is divided by 1. As :func:`scanpy.pp.scale`.

    Parameters
    ----------
    data
        Values of cells by genes; dense, sparse or (staying lazy) dask. A plain array is scaled and returned, and no
        step is recorded.
    zero_center
        Subtract the mean. Without it sparse data stay sparse.
    max_value
        Clip larger values, and with ``zero_center`` values below ``-max_value``, to this many standard deviations.
    copy
        Work on a copy and return it.
    layer
        Layer to scale instead of ``X``.
    obsm
        Array of ``adata.obsm`` to scale instead of ``X``; means and standard deviations are kept with the step only.
    mask_obs
        Cells to fit and to scale; the others are left unchanged. A boolean array, or a boolean column of
        ``adata.obs``.
    mod
        Modality of a MuData.

    Returns
    -------
    None, the copy if ``copy=True``, or the scaled array where an array was given. Sets:

    ``adata.X`` | ``adata.layers[layer]`` | ``adata.obsm[obsm]``
        Scaled values, dense if ``zero_center``; integers become float32.
    ``adata.var['mean']``, ``adata.var['std']``
        Mean and standard deviation of each gene before scaling. With ``mask_obs`` they are called
        ``'mean of {mask_obs}'`` for a column and ``'mean with mask'`` for an array, which is itself kept in
        ``adata.obs['scale_mask']``.

    Raises
    ------
    ValueError
        The mask is not boolean, has another length than the data, or is false everywhere.
    """
    operator = Scale(zero_center=zero_center, max_value=max_value)
    if is_array(data):
        refuse_for_arrays(layer=layer, obsm=obsm, mod=mod)
        masked = {} if mask_obs is None else {"mask": {"mask": checked(mask_obs, data.shape[0]).astype(np.float64)}}
        warn_if_densified(data, zero_center)
        return on_array(operator, data, copy=copy, **masked)
    slot = matrix_slot(layer, obsm)
    warn_if_densified(read(data, Slot.parse(slot, mod)), zero_center)
    reads: dict[str, str | list[str]] = {"x": slot}
    constants: dict[str, Any] = {}
    writes, suffix = {"x": slot}, ""
    if mask_obs is not None:
        named = isinstance(mask_obs, str)
        column = f"obs/{mask_obs}" if named else "obs/scale_mask"
        at = Slot.parse(column, mod)
        mask = checked(read(data, at) if named else mask_obs, holder(data, at).n_obs)
        reads["mask"] = [column]
        constants, suffix = ({}, f" of {mask_obs}") if named else ({column: mask}, " with mask")
    if obsm is None:
        writes |= {"mean": f"var/mean{suffix}", "std": f"var/std{suffix}"}
    return run_step(data, operator, reads=reads, writes=writes, constants=constants, copy=copy, mod=mod)


def checked(mask, n_cells: int) -> np.ndarray:
    """A boolean mask of cells.

    Raises
    ------
    ValueError
        It is not boolean, or has another length.
    """
    if isinstance(mask, str):
        msg = f"A plain array has no column {mask!r}: pass the mask itself."
        raise ValueError(msg)
    mask = np.asarray(mask)
    if len(mask) != n_cells:
        msg = f"`mask_obs` has {len(mask)} values for {n_cells} cells."
        raise ValueError(msg)
    if mask.dtype != bool:
        msg = f"`mask_obs` must be boolean; got {mask.dtype}."
        raise ValueError(msg)
    return mask


def warn_if_densified(x, zero_center: bool) -> None:
    """Warn that centring gives a dense matrix."""
    if zero_center and (sparse.issparse(x) or is_sparse_dask(x)):
        warn("zero-centering a sparse array/matrix densifies it.")
