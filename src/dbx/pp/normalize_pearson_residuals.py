"""Analytic Pearson residuals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.checks import are_counts
from dbx.ops.normalization.pearson_residuals import PearsonResiduals
from dbx.program import Slot, compute_step, matrix_slot, read, run_step
from dbx.program.log import warn

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def normalize_pearson_residuals(
    adata: AnnData | MuData,
    *,
    theta: float = 100,
    clip: float | None = None,
    check_values: bool = True,
    layer: str | None = None,
    obsm: str | None = None,
    inplace: bool = True,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | dict[str, Any] | None:
    """Replace raw counts by analytic Pearson residuals (Lause et al., Genome Biology, 2021).

    A cell's count is expected to be its total times the gene's fraction of all counts. These fractions and the largest
    residual are kept with the step: ``dbx.rerun`` uses those of the reference, and each new cell's own total over the
    reference's genes. As :func:`scanpy.experimental.pp.normalize_pearson_residuals`, by blocks of cells; a gene
    without any counts becomes 0 instead of NaN.

    Parameters
    ----------
    adata
        Raw counts of cells by genes; dense, sparse or (staying lazy) dask.
    theta
        Inverse dispersion of the negative binomial, the same for all genes; ``numpy.inf`` for a Poisson distribution.
    clip
        Largest absolute residual; by default the square root of the number of cells, ``numpy.inf`` for any.
    check_values
        Warn if there are values other than whole numbers.
    layer
        Layer to use instead of ``X``.
    obsm
        Array of ``adata.obsm`` to use instead of ``X``.
    inplace
        Write into ``adata``; otherwise return the results and write nothing.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, the copy if ``copy=True``, or with ``inplace=False`` a dict of ``"X"``, ``"theta"``, ``"clip"`` and
    ``"computed_on"``. Sets:

    ``adata.X`` | ``adata.layers[layer]`` | ``adata.obsm[obsm]``
        Residuals, dense, in the precision of the counts; of integers in float64.
    ``adata.uns['pearson_residuals_normalization']``
        The settings: ``theta``, ``clip`` and ``computed_on``.

    Raises
    ------
    ValueError
        There are no counts or negative ones, the data are known to be logarithms or scaled, ``theta`` is not above 0,
        ``clip`` is negative, or arguments contradict each other.
    """
    if copy and not inplace:
        msg = "`copy=True` cannot be used with `inplace=False`."
        raise ValueError(msg)
    slot = matrix_slot(layer, obsm)
    operator = pearson_residuals(adata, Slot.parse(slot, mod), theta, clip)
    note = {"theta": theta, "clip": clip, "computed_on": layer or obsm or "adata.X"}
    if check_values:
        warn_of_fractions(adata, Slot.parse(slot, mod))
    if not inplace:
        return {"X": compute_step(adata, operator, reads={"x": slot}, mod=mod)["x"], **note}
    return run_step(
        adata,
        operator,
        reads={"x": slot},
        writes={"x": slot},
        constants={"uns/pearson_residuals_normalization": note},
        copy=copy,
        mod=mod,
    )


def pearson_residuals(data: AnnData | MuData, slot: Slot, theta: float, clip: float | None) -> PearsonResiduals:
    """The operator with scanpy's settings; residuals of integers are in double precision."""
    return PearsonResiduals(
        **finite(theta, clip), dtype="float64" if np.dtype(read(data, slot).dtype).kind in "biu" else None
    )


def finite(theta: float, clip: float | None) -> dict[str, Any]:
    """The settings without infinity, which JSON lacks."""
    clipped = clip is None or clip != np.inf
    return {"theta": None if theta == np.inf else theta, "clip": clip if clipped else None, "clipped": clipped}


def warn_of_fractions(data: AnnData | MuData, slot: Slot) -> None:
    """Warn of values that are not counts."""
    if not are_counts(RowBlocks(read(data, slot))):
        warn("`normalize_pearson_residuals()` expects raw count data, but non-integers were found.")
