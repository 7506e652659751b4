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

    Cells are clustered softly by the direction in which they lie, with a penalty on clusters that lack batches; in
    each cluster a ridge regression takes off what each batch adds; and so in turn until the objective settles. The hard
    counterpart is harmonypy 2.1, whose settings these are (``max_iter_kmeans`` is ``max_iter_cluster`` here,
    ``epsilon_harmony`` and ``epsilon_cluster`` are ``tol`` and ``tol_cluster``, ``batch_prop_cutoff`` is ``prune``);
    its default is ``lamb=None``. First centroids and blocks are drawn otherwise, so that results agree as those of two
    of its seeds do.

    New cells of known batches go through the stored iterations. For cells of a new batch ``dbx.rerun`` keeps the
    clusters and fits the coefficients of that batch alone, as Symphony does (Kang et al., Nature Communications, 2021).

    Parameters
    ----------
    adata
        The annotated data, with an embedding.
    key
        Column of ``adata.obs`` that says each cell's batch, or several columns, corrected for together.
    basis
        Entry of ``adata.obsm`` to correct.
    adjusted_basis
        Entry of ``adata.obsm`` for the result.
    theta
        How strongly clusters are drawn to hold all batches; 0 does not. One number, one for each key, or one for each
        level of all keys (keys in the order of their names).
    lamb
        Ridge penalty, in cells: the larger, the less is corrected. Given like ``theta``; None takes ``alpha`` times the
        number of cells expected of a batch in a cluster.
    sigma
        Width of the soft clusters: the larger, the more clusters a cell belongs to.
    n_clusters
        Number of clusters; a thirtieth of the cells, at most 100, by default.
    max_iter
        Iterations of clustering and correction at most.
    random_state, rng
        Seed.
    copy
        Return a copy instead of writing into ``adata``.
    max_iter_cluster
        Rounds of clustering in each iteration at most; each round assigns all cells once.
    tol
        The objective's relative decrease below which iterations end.
    tol_cluster
        The objective's relative change, over the last rounds, below which rounds end.
    tau
        Cells of a batch that a cluster should hold before ``theta`` counts in full: protects small batches. 0 is off.
    block_size
        Fraction of the cells that is assigned at a time.
    alpha
        See ``lamb``.
    prune
        A batch with less than this fraction of its cells in a cluster is not corrected there; None corrects all.
    flavor
        ``"harmony2"``, or ``"harmony1"`` for the penalty of the 2019 publication, whose centroids move in each round.
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
