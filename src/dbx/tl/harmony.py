"""Harmony: embeddings corrected for batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from dbx.ops.batch.harmony.harmony import Harmony
from dbx.ops.batch.harmony.levels import by_name
from dbx.program import check_key, resolve_seed, run_step

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData


def harmony(
    adata: AnnData | MuData,
    key: str | Sequence[str],
    *,
    basis: str = "X_pca",
    adjusted_basis: str = "X_pca_harmony",
    theta: float | Sequence[float] = 2.0,
    lamb: float | Sequence[float] | None = 1.0,
    sigma: float = 0.1,
    n_clusters: int | None = None,
    max_iter: int = 10,
    random_state: int | np.random.RandomState | None = 0,
    copy: bool = False,
    rng: int | np.random.Generator | None = None,
    max_iter_cluster: int = 4,
    tol: float = 1e-2,
    tol_cluster: float = 1e-3,
    tau: float = 0.0,
    block_size: float = 0.05,
    alpha: float = 0.2,
    prune: float | None = 1e-5,
    flavor: Literal["harmony2", "harmony1"] = "harmony2",
    dtype: Literal["float32", "float64"] = "float32",
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Correct an embedding for batches (Korsunsky et al., Nature Methods, 2019; Patikas et al., bioRxiv, 2026).

    Cells are clustered softly by cosine similarity, with a penalty on clusters that lack batches; in each cluster a
    ridge regression removes the effect of each batch; the two alternate until the objective converges. The reference
    implementation is harmonypy 2.1, with the same settings (its ``max_iter_kmeans`` is ``max_iter_cluster`` here,
    ``epsilon_harmony`` and ``epsilon_cluster`` are ``tol`` and ``tol_cluster``, ``batch_prop_cutoff`` is ``prune``);
    its default is ``lamb=None``. Initial centroids and blocks are drawn differently, so that results differ as those of
    two seeds of harmonypy do.

    New cells of known batches pass through the stored iterations. For cells of a new batch ``dbx.rerun`` keeps the
    clusters and fits the coefficients of that batch only, as Symphony does (Kang et al., Nature Communications, 2021).

    Parameters
    ----------
    adata
        The annotated data, with an embedding.
    key
        Column of ``adata.obs`` with the batch of each cell, or several columns, corrected for jointly.
    basis
        Entry of ``adata.obsm`` to correct.
    adjusted_basis
        Entry of ``adata.obsm`` for the result.
    theta
        Weight of the penalty on clusters that lack batches; 0 is off. One number, one for each key, or one for each
        level of all keys (keys in the order of their names).
    lamb
        Ridge penalty, in cells: larger values correct less. One number or several, as for ``theta``; None takes
        ``alpha`` times the number of cells expected of a batch in a cluster.
    sigma
        Width of the soft clusters: with larger values a cell belongs to more clusters.
    n_clusters
        Number of clusters; a thirtieth of the cells, at most 100, by default.
    max_iter
        Maximum iterations of clustering and correction.
    random_state, rng
        Seed.
    copy
        Return a copy instead of writing into ``adata``.
    max_iter_cluster
        Maximum rounds of clustering in each iteration; each round assigns all cells once.
    tol
        Stop when the objective's relative decrease is below this.
    tol_cluster
        Stop clustering when the objective's relative change, over the last rounds, is below this.
    tau
        Expected cells of a batch per cluster below which ``theta`` is reduced, for small batches; 0 is off.
    block_size
        Fraction of the cells that is assigned at a time.
    alpha
        See ``lamb``.
    prune
        A batch with less than this fraction of its cells in a cluster is not corrected there; None corrects all.
    flavor
        ``"harmony2"``, or ``"harmony1"`` for the penalty of the 2019 publication, with centroids updated in each round.
    dtype
        Precision of the computation and the result.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``adata.obsm[adjusted_basis]``
        The corrected embedding, array of the shape of ``adata.obsm[basis]``, ``dtype``.

    Raises
    ------
    KeyError
        There is no such column or embedding.
    ValueError
        All cells are of one batch; a cell has no batch; the embedding holds NaN; a setting is out of range.
    TypeError
        The column is numeric: make it a category first.
    """
    check_key(adjusted_basis, "adjusted_basis")
    keys = [key] if isinstance(key, str) else list(key)
    operator = Harmony(
        theta=by_name(theta, keys),
        lamb=by_name(lamb, keys),
        sigma=sigma,
        n_clusters=n_clusters,
        max_iter=max_iter,
        max_iter_cluster=max_iter_cluster,
        tol=tol,
        tol_cluster=tol_cluster,
        tau=tau,
        block_size=block_size,
        alpha=alpha,
        prune=prune,
        flavor=flavor,
        dtype=dtype,
    )
    return run_step(
        adata,
        operator,
        reads={"x": f"obsm/{basis}", "batch": [f"obs/{k}" for k in keys]},
        writes={"z": f"obsm/{adjusted_basis}"},
        seed=resolve_seed(random_state, rng),
        copy=copy,
        mod=mod,
    )
