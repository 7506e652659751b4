"""Settings of Harmony's fit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings:
    """See :class:`dbx.ops.Harmony`, which has the same names."""

    theta: float | tuple[float, ...]
    lamb: float | tuple[float, ...] | None
    sigma: float
    n_clusters: int | None
    max_iter: int
    max_iter_cluster: int
    tol: float
    tol_cluster: float
    tau: float
    block_size: float
    alpha: float
    prune: float | None
    flavor: str
