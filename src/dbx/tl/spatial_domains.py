"""Domains of tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from dbx.ops.checks import check_known
from dbx.ops.space.attention_domains import AttentionDomains
from dbx.ops.space.domains import SpatialDomains
from dbx.program import Slot, check_key, coordinates_slot, refuse_counts, resolve_seed, run_step

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def spatial_domains(
    adata: AnnData | MuData,
    n_domains: int | None = None,
    *,
    spatial_key: str = "spatial",
    use_rep: str | None = "X_pca",
    method: Literal["smooth", "gat"] = "smooth",
    coord_type: Literal["knn", "radius", "delaunay", "grid"] = "knn",
    n_neighs: int = 6,
    radius: float | None = None,
    n_rounds: int = 2,
    hidden: tuple[int, int] = (512, 30),
    heads: int = 1,
    batch_key: str | None = None,
    refine: bool = True,
    cluster: Literal["gmm", "kmeans", "leiden"] = "gmm",
    max_epochs: int = 1000,
    batch_size: int | Literal["auto"] = "auto",
    denoised: bool = False,
    key_added: str = "spatial_domain",
    random_state: Any = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Divide tissue into domains: regions whose cells' neighbourhoods have similar expression.

    The embedding is centred and scaled within each slice, averaged over each cell's neighbours in tissue, and projected
    on the axes along which neighbours agree more than they do once cells are permuted (maximum autocorrelation factors;
    Switzer and Green, Stanford Technical Report 6, 1984). A mixture of normal distributions on these axes gives the
    domains.

    Parameters
    ----------
    adata
        Annotated data with positions of cells and, by default, principal components of logarithmised counts.
    n_domains
        Number of domains; chosen by the Bayesian information criterion of the mixture if not given, with as many
        observations as there are independent cells in the neighbour means. The number is logged at ``info``.
    spatial_key
        Entry of ``obsm`` with positions.
    use_rep
        Entry of ``obsm`` for ``"smooth"``; None computes 50 principal components of ``X``, which must be logarithmised.
    method
        ``"smooth"``, or ``"gat"``: before, cells are encoded with their neighbours by a graph autoencoder with
        attention (GATv2; STAGATE, Dong and Zhang, Nature Communications 2022) on the logarithmised counts in ``X``. It
        starts as the neighbour mean of principal components, and is trained on entries that are hidden from it while
        other, held-out entries are predicted better. On cortex by STARmap and osmFISH both find the layers equally well
        (adjusted Rand index .87 and .67), so the default is the one that takes seconds.
    coord_type
        Neighbours: the nearest cells (``"knn"``), all within ``radius``, those that share a triangle of a Delaunay
        triangulation, or the nearest spots of a regular grid (``"grid"``: ``n_neighs=6`` for hexagons, as of Visium, 4
        for squares). They are always of the same slice, and neighbours of each other: cells among the nearest of a cell
        have it as a neighbour, too.
    n_neighs
        Number of neighbours of ``"knn"`` and ``"grid"``.
    radius
        Largest distance of a neighbour, in units of the positions.
    n_rounds
        Rounds of averaging over neighbours; with ``"gat"`` the code is the first one.
    hidden, heads
        Units of the hidden layer and of the code, and attention heads, of ``"gat"``.
    batch_key
        Column of ``obs`` with the slice of each cell, for data of several slices. Without it all cells are in one. With
        ``"gat"`` the slice is also an input of the decoder, so that codes need not tell slices apart.
    refine
        Average probabilities over the 20 nearest cells.
    cluster
        ``"gmm"``, a mixture with one covariance shrunken towards a sphere; ``"kmeans"``; or ``"leiden"``, communities
        among the 15 most similar cells at the resolution that comes closest to ``n_domains``.
    max_epochs, batch_size
        Largest number of epochs and cells of a step of ``"gat"``; ``"auto"`` is all up to 10,000 cells, else 2,048.
    denoised
        With ``"gat"``, also write the expression that is decoded from the codes of each cell's neighbourhood.
    key_added
        Key in ``obs``, ``obsm`` and ``uns``.
    random_state
        Seed.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obs[key_added]``
        Domain of each cell, categorical; domains are numbered by their mean position along the first axis of space.
    ``obsm["<key_added>_probabilities"]``
        Array of shape (n_cells, n_domains); rows sum to 1.
    ``obsm["X_spatial"]``
        Neighbour means on the spatial axes.
    ``obsp["spatial_connectivities"]``, ``obsp["spatial_distances"]``
        Neighbours in tissue, 1 for each, and their distances.
    ``layers["spatial_denoised"]``
        Decoded logarithmised expression, dense, with ``denoised=True``.
    ``uns[key_added]["criterion"]``
        Bayesian information criterion by number of domains.
    ``uns[key_added]["history"]``
        Mean squared error of hidden and of held-out entries by epoch, with ``"gat"``.

    Raises
    ------
    KeyError
        There is no such embedding, column or position.
    ValueError
        Positions are missing or all the same, there are fewer cells than domains, or the counts are not logarithmised;
        ``denoised=True`` without ``method="gat"``.

    Examples
    --------
    >>> import dbx, numpy as np
    >>> adata = dbx.datasets.simulate(200, 50, 3, 1, seed=0)
    >>> adata.obsm["spatial"] = np.random.default_rng(0).uniform(size=(200, 2))
    >>> adata.obsm["spatial"][:, 0] += adata.obs["group"].cat.codes
    >>> dbx.pp.log1p(adata)
    >>> dbx.pp.pca(adata, n_comps=5)
    >>> dbx.tl.spatial_domains(adata, 3)
    >>> adata.obsm["spatial_domain_probabilities"].shape
    (200, 3)
    """
    check_key(key_added)
    check_known(method, ("smooth", "gat"), "method")
    if denoised and method != "gat":
        msg = 'denoised=True needs method="gat", which has a decoder.'
        raise ValueError(msg)
    settings: dict[str, Any] = {
        "n_domains": n_domains,
        "coord_type": coord_type,
        "n_neighs": n_neighs,
        "radius": radius,
        "n_rounds": n_rounds,
        "refine": refine,
        "cluster": cluster,
    }
    operator: SpatialDomains
    if method == "smooth":
        operator = SpatialDomains(**settings)
    else:
        size = None if batch_size == "auto" else batch_size
        operator = AttentionDomains.declared({"denoised": denoised})(
            hidden=hidden, heads=heads, max_epochs=max_epochs, batch_size=size, denoised=denoised, **settings
        )
    reads = {"points": f"obsm/{spatial_key}"}
    if use_rep is None or method == "gat":
        slot = Slot("X", mod=mod)
        refuse_counts(adata, slot, "spatial_domains")
        reads["genes"] = "X"
    else:
        reads["z"] = coordinates_slot(adata, use_rep, mod=mod)
    if batch_key is not None:
        reads["slices"] = f"obs/{batch_key}"
    return run_step(
        adata,
        operator,
        reads=reads,
        writes={
            "labels": f"obs/{key_added}",
            "probabilities": f"obsm/{key_added}_probabilities",
            "embedding": "obsm/X_spatial",
            "connectivities": "obsp/spatial_connectivities",
            "distances": "obsp/spatial_distances",
            "criterion": f"uns/{key_added}/criterion",
            **({"expression": "layers/spatial_denoised"} if denoised else {}),
            **({"history": f"uns/{key_added}/history"} if method == "gat" else {}),
        },
        seed=resolve_seed(random_state, None),
        copy=copy,
        mod=mod,
    )
