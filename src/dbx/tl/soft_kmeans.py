"""k-means with soft membership of cells in clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.ops.clusters.soft_kmeans import SoftKMeans
from dbx.program import check_key, coordinates_slot, resolve_seed, run_step

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData


def soft_kmeans(
    adata: AnnData | MuData,
    n_clusters: int,
    *,
    use_rep: str = "X_pca",
    temperature: float = 1.0,
    n_init: int = 10,
    max_iter: int = 300,
    key_added: str = "soft_kmeans",
    random_state: int | np.random.RandomState | None = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Find clusters by k-means and the membership of each cell in each of them.

    Centroids are found by greedy k-means++ (Arthur and Vassilvitskii, 2007) and Lloyd's iterations to convergence, the
    best of ``n_init`` starts by inertia. Membership is softmax(-d^2 / (2 temperature s^2)) for the distance d to the
    centroids and the pooled variance s^2 within clusters for each dimension. As ``temperature`` goes to 0 the result
    is that of ``sklearn.cluster.KMeans``, whose starts it uses for the same seed. :func:`dbx.optimize` can train the
    centroids and differentiate through the memberships, and :func:`dbx.rerun` applies them to new cells.

    Parameters
    ----------
    adata
        Annotated data with an embedding.
    n_clusters
        Number of clusters.
    use_rep
        Entry of ``obsm``, or ``"X"``.
    temperature
        Memberships are sharper below 1 and softer above.
    n_init
        Number of starts.
    max_iter
        Maximum number of iterations from each start.
    key_added
        Key in ``obs``, ``obsm`` and ``uns``.
    random_state
        Seed of the starts.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obs[key_added]``
        The nearest centroid, categorical: ``"0"`` is the largest cluster.
    ``obsm["<key_added>_probabilities"]``
        Array of shape (n_cells, n_clusters); rows sum to 1.
    ``uns[key_added]["centroids"]``
        Array of shape (n_clusters, n_dims).
    ``uns[key_added]["inertia"]``
        Sum of squared distances to the nearest centroid.

    Raises
    ------
    KeyError
        There is no such embedding.
    ValueError
        There are fewer different cells than ``n_clusters``, or ``temperature`` is not above zero.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 50, 3, 1, seed=0)
    >>> dbx.pp.log1p(adata)
    >>> dbx.pp.pca(adata, n_comps=5)
    >>> dbx.tl.soft_kmeans(adata, 3)
    >>> adata.obsm["soft_kmeans_probabilities"].shape
    (100, 3)
    """
    check_key(key_added)
    return run_step(
        adata,
        SoftKMeans(n_clusters=n_clusters, temperature=temperature, n_init=n_init, max_iter=max_iter),
        reads={"z": coordinates_slot(adata, use_rep, mod=mod)},
        writes={
            "labels": f"obs/{key_added}",
            "probabilities": f"obsm/{key_added}_probabilities",
            "centroids": f"uns/{key_added}/centroids",
            "inertia": f"uns/{key_added}/inertia",
        },
        seed=resolve_seed(random_state, None),
        copy=copy,
        mod=mod,
    )
