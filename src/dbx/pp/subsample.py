"""Cells drawn at random, as scanpy did before ``pp.sample``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.ops.quality.sample import Sample
from dbx.pp._arrays import is_array, refuse_for_arrays
from dbx.pp.sample import recorded
from dbx.program import Slot, holder

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from scipy.sparse import csc_matrix, csr_matrix


def subsample(
    data: AnnData | MuData | np.ndarray | csr_matrix | csc_matrix,
    fraction: float | None = None,
    *,
    n_obs: int | None = None,
    random_state: Any = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | tuple[Any, np.ndarray] | None:
    """Draw cells at random, without replacement.

    scanpy's function draws; the step is recorded with its settings, and does nothing to new cells. As
    :func:`scanpy.pp.subsample`, whose successor is :func:`dbx.pp.sample`.

    Parameters
    ----------
    data
        Annotated data, or a plain array, of which the drawn rows are returned with their numbers.
    fraction
        Fraction of the cells to draw.
    n_obs
        Number of cells to draw, instead of a fraction.
    random_state
        Seed.
    copy
        Return the drawn cells instead of changing ``data``.
    mod
        Modality of a MuData.

    Returns
    -------
    None, the drawn cells if ``copy=True``, or (rows, their numbers) of a plain array.
    """
    import scanpy as sc

    if is_array(data):
        refuse_for_arrays(mod=mod)
        return sc.pp.subsample(data, fraction, n_obs=n_obs, random_state=random_state, copy=copy)
    size = holder(data, Slot("X", mod=mod)).n_obs
    _, drawn = sc.pp.subsample(np.arange(size)[:, None], fraction, n_obs=n_obs, random_state=random_state)
    return recorded(data, Sample(fraction=fraction, n=n_obs), drawn, copy, mod, "subsample")
