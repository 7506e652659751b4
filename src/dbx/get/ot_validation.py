"""How well a coupling predicts the cells of a time between its two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.get.ot import cells_of, coupling_of
from dbx.ops.checks import check_number

if TYPE_CHECKING:
    from anndata import AnnData

MOST = 2_000
"""Points of each kind that are compared."""


def ot_validation(
    adata: AnnData,
    t0: float,
    t: float,
    t1: float,
    *,
    key: str = "ot",
    n_dims: int = 5,
    random_state: int = 0,
) -> pd.DataFrame:
    """Energy distance from measured cells of a time between two to what their coupling interpolates.

    Points between pairs of cells that are drawn from the coupling are compared with the measured cells, and so are the
    cells of either time, points between cells drawn independently, and cells of the first time moved by the difference
    of means. A coupling that is worse than these says nothing about the time between.

    Parameters
    ----------
    adata
        Data with a coupling from ``t0`` to ``t1``: ``dbx.tl.ot_trajectory(adata, time_key, time_pairs=[(t0, t1)])``.
    t0, t, t1
        The earlier time, the one between, and the later one.
    key
        Key of the couplings in ``uns``.
    n_dims
        First dimensions in which distances are taken: in many, noise is larger than any signal.
    random_state
        Seed of the pairs that are drawn.

    Returns
    -------
    Table with the energy distance (0 for the same distribution) of ``"coupling"``, ``"first"``, ``"last"``,
    ``"independent"`` and ``"linear"``.

    Raises
    ------
    SlotError
        There is no coupling of these times.
    ValueError
        ``t`` is not between them, or has fewer than 2 cells.
    """
    check_number(t, "t")
    coupling = coupling_of(adata, t0, t1, key)
    between = cells_of(adata, t, key)
    if not t0 < t < t1 or len(between) < 2:
        msg = f"Time {t:g} must be between {t0:g} and {t1:g} and have at least 2 cells; it has {len(between)}."
        raise ValueError(msg)
    rng, share = np.random.default_rng(random_state), (t - t0) / (t1 - t0)
    x, y, between = (points[:, :n_dims] for points in (coupling.x, coupling.y, between))
    i, j = coupling.sample(MOST, rng)
    independent = rng.integers(0, len(x), MOST), rng.integers(0, len(y), MOST)
    clouds = {
        "coupling": (1 - share) * x[i] + share * y[j],
        "first": x,
        "last": y,
        "independent": (1 - share) * x[independent[0]] + share * y[independent[1]],
        "linear": x + share * (y.mean(axis=0) - x.mean(axis=0)),
    }
    distances = {name: energy_distance(_some(cloud, rng), _some(between, rng)) for name, cloud in clouds.items()}
    return pd.DataFrame({"energy_distance": distances})


def energy_distance(u: np.ndarray, v: np.ndarray) -> float:
    """2 E|u - v| - E|u - u'| - E|v - v'| without the pairs of a point with itself."""
    from scipy.spatial.distance import cdist, pdist

    return float(2 * cdist(u, v).mean() - pdist(u).mean() - pdist(v).mean())


def _some(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return points if len(points) <= MOST else points[rng.choice(len(points), MOST, replace=False)]
