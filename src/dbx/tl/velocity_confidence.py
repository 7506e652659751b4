"""Agreement of the velocities of neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.ops.dynamics.velocity_confidence import VelocityConfidence
from dbx.program import check_key, neighbors_slot, run_step
from dbx.tl._velocity import used_genes

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def velocity_confidence(
    adata: AnnData | MuData,
    *,
    vkey: str = "velocity",
    neighbors_key: str | None = None,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Correlate the velocity of each cell with those of its neighbours (Bergen et al., Nature Biotechnology, 2020).

    As ``scvelo.tl.velocity_confidence``. Velocities from smoothed counts agree among neighbours even where their
    direction is wrong: a high value says that there is a direction, not that it is right.

    Parameters
    ----------
    adata
        Annotated data with velocities and neighbours.
    vkey
        Key of the velocities.
    neighbors_key
        Key of the neighbours in ``uns``; ``"neighbors"`` by default.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData to work on.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obs[f"{vkey}_confidence"]``
        Mean Pearson correlation with the velocities of the neighbours, 0 where it is negative.
    ``obs[f"{vkey}_length"]``
        Length of the velocity less its mean over genes.

    Raises
    ------
    KeyError
        There are no velocities or no neighbours.
    ValueError
        Fewer than two genes have velocities that are used.

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
    >>> dbx.tl.velocity_confidence(adata)
    >>> bool((adata.obs["velocity_confidence"] >= 0).all())
    True
    """
    check_key(vkey, "vkey")
    return run_step(
        adata,
        VelocityConfidence(),
        reads={"v": f"layers/{vkey}", "graph": neighbors_slot(adata, "distances", neighbors_key, mod=mod)},
        writes={"confidence": f"obs/{vkey}_confidence", "length": f"obs/{vkey}_length"},
        select=used_genes(adata, vkey, mod=mod),
        name=f"{vkey}_confidence",
        copy=copy,
        mod=mod,
    )
