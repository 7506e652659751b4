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
    """Probability that a cell belongs to each group, by a mixture of normal distributions in an embedding.

    Each group is a spherical normal distribution with the mean, variance and proportion of its cells (McLachlan and
    Peel, Finite Mixture Models, 2000). The groups are given, not searched for: this is their soft, differentiable form,
    which :func:`dbx.optimize` can train (centroids, variances and proportions) and differentiate through, and
    :func:`dbx.rerun` applies to new cells. With ``temperature`` towards 0 it becomes the nearest centroid
    (``sklearn.neighbors.NearestCentroid``).

    Parameters
    ----------
    adata
        Annotated data with an embedding and groups of cells.
    groups
        Column of ``obs`` with the groups, such as clusters; cells without a group (missing values) are not used.
    use_rep
        Entry of ``obsm``.
    temperature
        Divisor of the log-probabilities: memberships are sharper below 1.
    key_added
        Key in ``obs``, ``obsm`` and ``uns``; ``"<groups>_soft"`` by default.
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
        There is only one group, or ``temperature`` is not above zero.
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
