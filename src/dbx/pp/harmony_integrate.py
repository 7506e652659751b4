"""Harmony under the name and with the signature it has in scanpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dbx.ops.batch.harmony.harmony import Harmony
from dbx.ops.batch.harmony.levels import by_name
from dbx.program import check_key, resolve_seed, run_step

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def harmony_integrate(
    adata: AnnData | MuData,
    key: str | Sequence[str],
    *,
    basis: str = "X_pca",
    adjusted_basis: str = "X_pca_harmony",
    dtype: Any = np.float64,
    flavor: Literal["harmony2", "harmony1"] = "harmony2",
    n_clusters: int | None = None,
    max_iter_harmony: int = 10,
    max_iter_clustering: int = 200,
    tol_harmony: float = 1e-4,
    tol_clustering: float = 1e-5,
    sigma: float = 0.1,
    theta: float | Sequence[float] = 2.0,
    tau: int = 0,
    ridge_lambda: float = 1.0,
    alpha: float = 0.2,
    batch_prune_threshold: float | None = 1e-5,
    correction_method: Literal["fast", "original"] = "fast",
    block_proportion: float = 0.05,
    rng: int | np.random.Generator | None = None,
    mod: str | None = None,
) -> None:
    """Correct an embedding for batches (Korsunsky et al., Nature Methods, 2019; Patikas et al., bioRxiv, 2026).

    The step of :func:`dbx.tl.harmony`, with the names and defaults of scanpy 1.13's function. Several
    keys are corrected for jointly, as in harmonypy and :func:`scanpy.external.pp.harmony_integrate`.

    Parameters
    ----------
    adata
        The annotated data, with an embedding.
    key
        Column of ``adata.obs`` with the batch of each cell, or several columns.
    basis
        Entry of ``adata.obsm`` to correct.
    adjusted_basis
        Entry of ``adata.obsm`` for the result.
    dtype
        Precision of the computation and the result, float32 or float64.
    flavor
        ``"harmony2"`` takes ``alpha`` and ``batch_prune_threshold``, ``"harmony1"`` takes ``ridge_lambda``.
    n_clusters
        Number of clusters; a thirtieth of the cells, at most 100, by default.
    max_iter_harmony
        Maximum iterations of clustering and correction.
    max_iter_clustering
        Maximum rounds of clustering in each iteration.
    tol_harmony
        Stop when the objective's relative decrease is below this.
    tol_clustering
        Stop clustering when the objective's relative change, over the last rounds, is below this.
    sigma
        Width of the soft clusters.
    theta
        Weight of the penalty on clusters that lack batches: one number, one for each key or one for each level.
    tau
        Expected cells of a batch per cluster below which ``theta`` is reduced; 0 is off.
    ridge_lambda
        Ridge penalty of ``"harmony1"``, in cells.
    alpha
        Ridge penalty of ``"harmony2"``, as a fraction of the cells expected of a batch in a cluster.
    batch_prune_threshold
        A batch with less than this fraction of its cells in a cluster is not corrected there (``"harmony2"``); None
        corrects all.
    correction_method
        Accepted for compatibility with scanpy; has no effect: scanpy's two methods give the same result.
    block_proportion
        Fraction of the cells that is assigned at a time.
    rng
        Seed; 0 by default, so that results are reproducible.
    mod
        Modality of a MuData.

    Returns
    -------
    None. Writes:

    ``adata.obsm[adjusted_basis]``
        The corrected embedding, array of the shape of ``adata.obsm[basis]``, ``dtype``.

    Raises
    ------
    KeyError
        There is no such column or embedding.
    ValueError
        All cells are of one batch; a cell has no batch; the embedding holds NaN; a setting is out of range.
    """
    check_key(adjusted_basis, "adjusted_basis")
    if correction_method not in ("fast", "original"):
        msg = f'correction_method must be "fast" or "original"; got {correction_method!r}.'
        raise ValueError(msg)
    keys = [key] if isinstance(key, str) else list(key)
    second = flavor == "harmony2"
    operator = Harmony(
        theta=by_name(theta, keys),
        lamb=None if second else ridge_lambda,
        sigma=sigma,
        n_clusters=n_clusters,
        max_iter=max_iter_harmony,
        max_iter_cluster=max_iter_clustering,
        tol=tol_harmony,
        tol_cluster=tol_clustering,
        tau=tau,
        block_size=block_proportion,
        alpha=alpha,
        prune=batch_prune_threshold if second else None,
        flavor=flavor,
        dtype=np.dtype(dtype).name,
    )
    run_step(
        adata,
        operator,
        reads={"x": f"obsm/{basis}", "batch": [f"obs/{k}" for k in keys]},
        writes={"z": f"obsm/{adjusted_basis}"},
        seed=resolve_seed(0, rng),
        mod=mod,
    )
