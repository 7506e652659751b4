"""Couplings of cells of two times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.ops.checks import check_number
from dbx.ops.transport.coupling import Coupling, Masses
from dbx.ops.transport.low_rank_coupling import LowRankCoupling
from dbx.ops.transport.times import at
from dbx.program.slots.slots import SlotError

if TYPE_CHECKING:
    from anndata import AnnData


def ot(adata: AnnData, key: str = "ot") -> dict[tuple[float, float], Masses]:
    """Couplings of :func:`dbx.tl.ot_trajectory`.

    Parameters
    ----------
    adata
        Data with couplings; for a MuData pass the modality, ``mdata["rna"]``.
    key
        Key in ``uns``.

    Returns
    -------
    (earlier time, later time) -> coupling, with the cells of each time in the order of ``adata``:

    ``push(x)``, ``pull(x)``
        Values of earlier cells carried to later ones, and back.
    ``rows(i)``, ``matrix()``
        Some rows of the coupling; all of it, up to 5,000 x 5,000 cells.
    ``growth``
        Descendants of each earlier cell.
    ``marginal_error``, ``converged``
        Largest relative error of the sum of a column, and whether it was below the threshold.

    Raises
    ------
    SlotError
        There are no couplings, or only some of the cells they were computed for.

    Examples
    --------
    >>> import dbx
    >>> import numpy as np
    >>> cells = dbx.datasets.simulate(100, 50, 2, 1, seed=0)
    >>> cells.obs["day"] = [0.0, 1.0] * 50
    >>> dbx.pp.log1p(cells)
    >>> dbx.pp.pca(cells, n_comps=5)
    >>> dbx.tl.ot_trajectory(cells, "day", tau_a=1, tau_b=1)
    >>> coupling = dbx.get.ot(cells)[0.0, 1.0]
    >>> bool(np.allclose(coupling.push(np.ones(50)), 1 / 50))
    True
    """
    pairs, params = _found(adata, key)
    points = np.asarray(adata.obsm[params["use_rep"]], np.float64)
    times = _times(adata, params["time_key"])
    rows = np.asarray(adata.obsm[_rows_key(pairs, key)])
    couplings: dict[tuple[float, float], Masses] = {}
    for number, pair in enumerate(pairs.itertuples()):
        width = pair.rank if "rank" in pairs else pair.n_solves
        columns = slice(number * width, (number + 1) * width)
        source, target = (np.flatnonzero(at(times, time)) for time in (pair.source, pair.target))
        if (len(source), len(target)) != (pair.n_source, pair.n_target):
            msg = (
                f"The coupling from {pair.source:g} to {pair.target:g} is of {pair.n_source} and {pair.n_target} "
                f"cells, and here are {len(source)} cells and {len(target)}: take it of all cells, or run "
                "dbx.tl.ot_trajectory again."
            )
            raise SlotError(msg)
        made = _low_rank if "rank" in pairs else _coupling
        couplings[float(pair.source), float(pair.target)] = made(pair, points, rows[:, columns], source, target)
    return couplings


def coupling_of(adata: AnnData, source: float, target: float, key: str = "ot") -> Masses:
    """The coupling of two times.

    Raises
    ------
    SlotError
        There is none.
    TypeError
        A time is not a number.
    """
    for name, time in (("The earlier time", source), ("The later time", target)):
        check_number(time, name)
    couplings = ot(adata, key)
    if (source, target) not in couplings:
        there = ", ".join(f"({first:g}, {second:g})" for first, second in couplings)
        msg = (
            f"There is no coupling from {source:g} to {target:g}, only {there}: pass time_pairs=[({source:g}, "
            f"{target:g})] to dbx.tl.ot_trajectory."
        )
        raise SlotError(msg)
    return couplings[source, target]


def cells_of(adata: AnnData, time: float, key: str = "ot") -> np.ndarray:
    """Coordinates of the cells of a time in the representation of the couplings."""
    _, params = _found(adata, key)
    points = np.asarray(adata.obsm[params["use_rep"]], np.float64)
    return points[np.asarray(at(_times(adata, params["time_key"]), time))]


def times_of_cells(adata: AnnData, key: str = "ot") -> np.ndarray:
    """Time of each cell, array of shape (n_cells,)."""
    return _times(adata, _found(adata, key)[1]["time_key"])


def is_of_last_time(adata: AnnData, key: str = "ot") -> np.ndarray:
    """Which cells have no later time, array of shape (n_cells,)."""
    times, sources = times_of_cells(adata, key), _found(adata, key)[0]["source"].unique()
    return ~np.any([at(times, source) for source in sources], axis=0)


def _coupling(pair, points: np.ndarray, potentials: np.ndarray, source: np.ndarray, target: np.ndarray) -> Coupling:
    phi, gamma = potentials[source], potentials[target]
    grown = pair.last_round + 1 if pair.n_solves > pair.last_round + 1 else 0
    return Coupling(
        x=points[source],
        y=points[target],
        phi=phi[:, pair.last_round],
        gamma=gamma[:, pair.last_round],
        unit=pair.scale * pair.epsilon,
        source=source,
        target=target,
        marginal_error=float(pair.marginal_error),
        converged=bool(pair.converged),
        growth_phi=phi[:, grown],
        growth_gamma=gamma[:, grown],
        descendants=float(pair.descendants),
    )


def _low_rank(pair, points: np.ndarray, factors: np.ndarray, source: np.ndarray, target: np.ndarray) -> LowRankCoupling:
    return LowRankCoupling(
        x=points[source],
        y=points[target],
        source=source,
        target=target,
        marginal_error=float(pair.marginal_error),
        converged=bool(pair.converged),
        descendants=float(pair.descendants),
        log_q=factors[source],
        log_r=factors[target],
    )


def _rows_key(pairs: pd.DataFrame, key: str) -> str:
    """Entry of ``obsm`` with what couplings keep of each cell."""
    return f"{key}_factors" if "rank" in pairs else f"{key}_potentials"


def _times(adata: AnnData, key: str) -> np.ndarray:
    return pd.to_numeric(adata.obs[key].astype(object)).to_numpy(np.float64)


def _found(adata: AnnData, key: str) -> tuple[pd.DataFrame, dict]:
    found = adata.uns.get(key)
    if not isinstance(found, dict) or "pairs" not in found or _rows_key(found["pairs"], key) not in adata.obsm:
        msg = f"adata.uns[{key!r}] has no couplings: compute them with dbx.tl.ot_trajectory(adata, time_key)."
        raise SlotError(msg)
    return found["pairs"], found["params"]
