"""The centre slice of aligned slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbx.program.slots.slots import SlotError

if TYPE_CHECKING:
    from anndata import AnnData


def center_slice(adata: AnnData, key: str = "align_slices") -> AnnData:
    """The centre slice that :func:`dbx.tl.align_slices` fitted with ``method="center"``.

    Parameters
    ----------
    adata
        Data with slices aligned with a centre slice.
    key
        Key in ``uns``.

    Returns
    -------
    One row for each spot of the centre: expression W H in counts, dense, in ``X``, positions in ``obsm["spatial"]``,
    and the factors in ``obsm["factors"]`` (W) and ``varm["factors"]`` (H, transposed).

    Raises
    ------
    SlotError
        There is no such result.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(80, 50, 3, 1, seed=0)
    >>> adata.obsm["spatial"] = [[i % 8, i // 8 % 5] for i in range(80)]
    >>> adata.obs["slice"] = ["a"] * 40 + ["b"] * 40
    >>> dbx.tl.align_slices(adata, "slice", method="center", overlap=1.0)
    >>> dbx.get.center_slice(adata).shape
    (40, 50)
    """
    from anndata import AnnData

    found = adata.uns.get(key, {})
    if "center_spots" not in found:
        msg = f'uns has no centre slice in {key!r}: run dbx.tl.align_slices(adata, slice_key, method="center") first.'
        raise SlotError(msg)
    spots, genes = np.asarray(found["center_spots"]), np.asarray(found["center_genes"])
    center = AnnData((spots @ genes).astype(np.float32), var=adata.var[[]].copy())
    center.obsm["spatial"] = np.asarray(found["center_positions"])
    center.obsm["factors"] = spots
    center.varm["factors"] = genes.T
    return center
