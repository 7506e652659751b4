"""Velocities as arrows in an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.ops.dynamics.velocity_embedding import VelocityEmbedding
from dbx.program import check_key, run_step

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def velocity_embedding(
    adata: AnnData | MuData,
    basis: str = "umap",
    *,
    vkey: str = "velocity",
    scale: float = 10.0,
    self_transitions: bool = True,
    use_negative_cosines: bool = True,
    autoscale: bool = True,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Project velocities into an embedding by the graph of velocities (Bergen et al., Nature Biotechnology, 2020).

    As ``scvelo.tl.velocity_embedding``: an arrow is the mean direction to the cells that a cell may become, less that
    to all cells it has an edge to. In two dimensions it shows only part of the velocities, and cells that are near each
    other only in the embedding may point anywhere.

    Parameters
    ----------
    adata
        Annotated data with the graph of :func:`dbx.tl.velocity_graph`.
    basis
        The embedding ``obsm[f"X_{basis}"]``.
    vkey
        Key of the velocities.
    scale
        Factor of correlations in the exponent of probabilities.
    self_transitions
        Whether cells whose largest correlation is low may stay where they are, which shortens their arrows.
    use_negative_cosines
        Whether cells move away from those that their velocity points away from.
    autoscale
        Scale all arrows for a plot.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData to work on.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obsm[f"{vkey}_{basis}"]``
        Arrows, array of shape (n_cells, n_dims), float32.

    Raises
    ------
    KeyError
        There is no such embedding, or no graph of velocities.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 50, 2, 1, seed=0)
    >>> adata.layers["spliced"] = adata.layers["unspliced"] = adata.X.copy()
    >>> dbx.pp.log1p(adata)
    >>> dbx.pp.pca(adata)
    >>> dbx.pp.neighbors(adata)
    >>> dbx.pp.moments(adata)
    >>> dbx.tl.velocity(adata, mode="steady_state", min_r2=-10)
    >>> dbx.tl.velocity_graph(adata)
    >>> dbx.tl.velocity_embedding(adata, "pca")
    >>> adata.obsm["velocity_pca"].shape == adata.obsm["X_pca"].shape
    True
    """
    check_key(vkey, "vkey")
    check_key(basis, "basis")
    basis = basis.removeprefix("X_")
    return run_step(
        adata,
        VelocityEmbedding(
            scale=scale,
            self_transitions=self_transitions,
            use_negative_cosines=use_negative_cosines,
            autoscale=autoscale,
        ),
        reads={"positive": f"obsp/{vkey}_graph", "negative": f"obsp/{vkey}_graph_neg", "x": f"obsm/X_{basis}"},
        writes={"velocity": f"obsm/{vkey}_{basis}"},
        name=f"{vkey}_embedding_{basis}",
        copy=copy,
        mod=mod,
    )
