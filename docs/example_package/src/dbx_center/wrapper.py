"""The wrapper: names the slots; reading, fitting, writing and recording are run_step's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.program import matrix_slot, run_step
from dbx_center.operator import Center

if TYPE_CHECKING:
    from anndata import AnnData


def center(
    adata: AnnData, *, shrink: float = 1.0, layer: str | None = None, copy: bool = False, mod: str | None = None
) -> AnnData | None:
    """Subtract each gene's mean.

    Parameters
    ----------
    adata
        Annotated data with logarithmised counts.
    shrink
        Fraction of the mean to subtract.
    layer
        Layer to read instead of ``X``.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Sets:

    ``adata.layers['centered']``
        Values minus means.
    ``adata.var['center_mean']``
        The means.
    """
    return run_step(
        adata,
        Center(shrink=shrink),
        reads={"x": matrix_slot(layer)},
        writes={"y": "layers/centered", "means": "var/center_mean"},
        copy=copy,
        mod=mod,
    )
