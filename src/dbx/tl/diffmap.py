"""Diffusion maps of the graph of neighbours, with scanpy's signature and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scipy.sparse.csgraph import connected_components

from dbx.ops.diffusion.diffusion_map import DiffusionMap
from dbx.ops.diffusion.markov import components
from dbx.program import Slot, graph_slot, log, read, resolve_seed, run_step

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData


def diffmap(
    adata: AnnData | MuData,
    n_comps: int = 15,
    *,
    neighbors_key: str | None = None,
    random_state: int | np.random.RandomState | None = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Diffusion components of the graph of neighbours (Coifman and Lafon, 2006; Haghverdi et al., 2015).

    As :func:`scanpy.tl.diffmap`: eigenvectors of the symmetric transition matrix of the graph, from which the density
    of sampling is removed. Signs are fixed (the entry that is largest in absolute value is positive), and each
    component of the graph has its own stationary state. New cells are placed by the Nystrom extension.

    Parameters
    ----------
    adata
        The annotated data, with neighbours.
    n_comps
        Number of components, the stationary one included.
    neighbors_key
        Key of ``uns`` with the neighbours.
    random_state
        Seed of the solver's start.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData to work on.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obsm["X_diffmap"]``
        Eigenvectors of unit norm by falling eigenvalue, array of shape (n_cells, n_comps), float32. The first is the
        stationary state, which tells nothing about the cells of a connected graph.
    ``uns["diffmap_evals"]``
        Eigenvalues, array of shape (n_comps,), float32.
    ``obs["diffmap_density"]``
        Sum of each cell's edge weights, float32, which the placing of new cells needs.

    Raises
    ------
    KeyError
        There are no neighbours.
    ValueError
        ``n_comps`` is below 1, or the weights of edges are negative or differ between the directions.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 50, 3, 1, seed=0)
    >>> dbx.pp.log1p(adata)
    >>> dbx.pp.neighbors(adata)
    >>> dbx.tl.diffmap(adata, n_comps=5)
    >>> adata.obsm["X_diffmap"].shape
    (100, 5)
    """
    graph = graph_slot(adata, neighbors_key, mod=mod)
    edges = read(adata, Slot.parse(graph, mod))
    _warn_of_parts(edges)
    if n_comps >= edges.shape[0] > 1:
        log.warn(
            f"n_comps={n_comps} must be below the number of cells, {edges.shape[0]}: computing one less than these."
        )
    return run_step(
        adata,
        DiffusionMap(n_comps=n_comps),
        reads={"graph": graph},
        writes={"z": "obsm/X_diffmap", "density": "obs/diffmap_density", "evals": "uns/diffmap_evals"},
        seed=resolve_seed(random_state, None),
        copy=copy,
        mod=mod,
    )


def _warn_of_parts(graph) -> None:
    if connected_components(graph, directed=False, return_labels=False) > 1:
        log.warn(
            f"The graph of neighbours has {components(graph).described()}. Each has a stationary state with eigenvalue "
            "1, and pseudotime cannot pass from one to another; more neighbours may connect them."
        )
