"""Harmony's settings, as its fit takes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What :class:`dbx.ops.Harmony` explains under the same names."""

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
