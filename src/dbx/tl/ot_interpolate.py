"""Points between the cells of two times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.get.ot import coupling_of
from dbx.ops.checks import check_number, check_whole
from dbx.program import Slot, holder, resolve_seed

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def ot_interpolate(
    adata: AnnData | MuData,
    t0: float,
    t: float,
    t1: float,
    *,
    n_points: int = 2000,
    key: str = "ot",
    random_state: int | np.random.RandomState | None = 0,
    mod: str | None = None,
) -> AnnData:
    """Points of a time between two, on the lines between pairs of cells that are drawn from their coupling.

    Pairs are drawn by their mass in the coupling of :func:`dbx.tl.ot_trajectory`, and a point divides the line of a
    pair as ``t`` divides the time. Points are not measured cells: they have no genes, names and columns of their own,
    and no value in the column of times. Whether they are near the cells of a measured time says
    :func:`dbx.get.ot_validation`. Nothing is written.

    Parameters
    ----------
    adata
        Annotated data with a coupling of the two times.
    t0, t, t1
        The earlier time, the one between, and the later one.
    n_points
        Number of points.
    key
        Key of the couplings in ``uns``.
    random_state
        Seed of the pairs that are drawn.
    mod
        Modality of a MuData.

    Returns
    -------
    Data without genes, named ``interpolated-0`` and so on:

    ``obsm[use_rep]``
        Points in the representation of the coupling, array of shape (n_points, n_dims).
    ``obs["interpolated_time"]``
        ``t``.
    ``obs["interpolated_from"]``, ``obs["interpolated_to"]``
        Names of the earlier and the later cell of each pair.

    Raises
    ------
    KeyError
        There is no coupling of these times.
    ValueError
        There are no cells, or ``t`` is not between ``t0`` and ``t1``.

    Examples
    --------
    >>> import dbx
    >>> cells = dbx.datasets.simulate(200, 100, 3, 1, seed=0)
    >>> dbx.pp.log1p(cells)
    >>> dbx.pp.pca(cells, n_comps=10)
    >>> cells.obs["day"] = [0.0, 1.0] * 100
    >>> dbx.tl.ot_trajectory(cells, "day")
    >>> dbx.tl.ot_interpolate(cells, 0, 0.5, 1, n_points=50).obsm["X_pca"].shape
    (50, 10)
    """
    import anndata as ad

    cells = holder(adata, Slot("obs", mod=mod))
    if not cells.n_obs:
        msg = "Interpolation needs cells; the data have 0 cells."
        raise ValueError(msg)
    check_whole(n_points, 1, "n_points")
    check_number(t, "t")
    coupling = coupling_of(cells, t0, t1, key)
    if not t0 < t < t1:
        msg = f"t must be between t0 and t1; got {t:g}, and {t0:g} and {t1:g}."
        raise ValueError(msg)
    i, j = coupling.sample(n_points, np.random.default_rng(resolve_seed(random_state)))
    share = (t - t0) / (t1 - t0)
    points = (1 - share) * coupling.x[i] + share * coupling.y[j]
    names = cells.obs_names
    obs = pd.DataFrame(
        {
            "interpolated_time": float(t),
            "interpolated_from": names[coupling.source[i]],
            "interpolated_to": names[coupling.target[j]],
        },
        index=[f"interpolated-{number}" for number in range(n_points)],
    )
    return ad.AnnData(obs=obs, obsm={cells.uns[key]["params"]["use_rep"]: points})
