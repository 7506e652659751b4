"""Batch correction by ComBat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.ops.batch.combat import Combat
from dbx.ops.checks import as_names, listed
from dbx.program import check_key, compute_step, run_step

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np
    from anndata import AnnData
    from mudata import MuData


def combat(
    adata: AnnData | MuData,
    key: str = "batch",
    *,
    covariates: Collection[str] | None = None,
    inplace: bool = True,
    mod: str | None = None,
) -> np.ndarray | None:
    """Adjust each gene's mean and variance in each batch (ComBat; Johnson et al., Biostatistics, 2007).

    The coefficients of the batches are kept with the step: ``dbx.rerun`` adjusts new cells of the reference's batches
    with them and refuses new batches. As :func:`scanpy.pp.combat`, from sums over cells instead of dense copies of the
    data. As there, iterations end after the first in every batch if a gene does not vary, so remove such genes first.
    Where covariates are categorical scanpy inverts a singular matrix; dbx gives what it gives for indicators of levels.

    Parameters
    ----------
    adata
        Cells by genes, usually logarithms of normalised counts.
    key
        Column of ``adata.obs`` with the batch of each cell.
    covariates
        Columns of ``adata.obs``, numeric or categorical, whose effects are preserved. Of categories only what differs
        within batches counts.
    inplace
        Write into ``adata``; otherwise return the adjusted values and write nothing.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or with ``inplace=False`` the adjusted values. Sets:

    ``adata.X``
        Adjusted values, dense, float64.

    Raises
    ------
    ValueError
        A batch has a single cell, there is one batch only, a column has missing values, or the covariates are
        confounded with the batches.
    """
    check_key(key, "key")
    names = as_names(() if covariates is None else covariates, "covariates")
    if key in names:
        msg = f"The batches, obs[{key!r}], cannot be a covariate as well."
        raise ValueError(msg)
    if len(set(names)) < len(names):
        msg = f"Each covariate must be named once; got {listed(names)}."
        raise ValueError(msg)
    reads: dict[str, str | list[str]] = {"x": "X", "batch": f"obs/{key}"}
    if names:
        reads["covariates"] = [f"obs/{name}" for name in names]
    if not inplace:
        return compute_step(adata, Combat(), reads=reads, mod=mod)["x"]
    run_step(adata, Combat(), reads=reads, writes={"x": "X"}, mod=mod)
    return None
