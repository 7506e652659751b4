"""Soft membership of cells in groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.ops.clusters.soft_clusters import SoftClusters
from dbx.program import check_key, run_step

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def soft_clusters(
    adata: AnnData | MuData,
    groups: str = "leiden",
    *,
    use_rep: str = "X_pca",
    temperature: float = 1.0,
    key_added: str | None = None,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Probability that a cell belongs to each group, by where the groups lie in an embedding.

    Each group is a spherical normal distribution with the mean, the variance and the share of its cells. Nothing is
    searched for: the groups are those given, and this is the soft, differentiable form of them that
    :func:`dbx.optimize` can train (centroids, variances and shares) and train through, and that new cells get by
    :func:`dbx.rerun`. A mixture of normals (McLachlan and Peel, Finite Mixture Models, 2000); the hard counterpart is
    the nearest centroid (``sklearn.neighbors.NearestCentroid``), to which it tends with a falling ``temperature``.

    Parameters
    ----------
    adata
        Annotated data with an embedding and groups of cells.
    groups
        Column of ``obs`` with the groups, such as clusters; cells without one (missing) take no part.
    use_rep
        Entry of ``obsm``.
    temperature
        What the log-probabilities are divided by: memberships are sharper below 1.
    key_added
        Name of what is written; ``"<groups>_soft"`` by default.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obsm["<key_added>_probabilities"]``
        Array of shape (n_cells, n_groups), groups in the order of their categories; rows sum to 1.
    ``obs[key_added]``
        The likeliest group, categorical.
    ``uns[key_added]["centroids"]``
        Array of shape (n_groups, n_dims).

    Raises
    ------
    KeyError
        There is no such embedding or column.
    ValueError
        There is but one group, or ``temperature`` is not above zero.
    """
    check_key(key_added)
    key = f"{groups}_soft" if key_added is None else key_added
    return run_step(
        adata,
        SoftClusters(temperature=temperature),
        reads={"z": f"obsm/{use_rep}", "groups": f"obs/{groups}"},
        writes={
            "labels": f"obs/{key}",
            "probabilities": f"obsm/{key}_probabilities",
            "centroids": f"uns/{key}/centroids",
        },
        copy=copy,
        mod=mod,
    )
