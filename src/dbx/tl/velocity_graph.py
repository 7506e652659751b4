"""The graph of velocities and its probabilities of transitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbx.ops.checks import check_whole
from dbx.ops.dynamics.velocity_graph import VelocityGraph
from dbx.ops.dynamics.velocity_transitions import VelocityTransitions
from dbx.program import Slot, check_key, exists, neighbors_slot, read, run_step
from dbx.program.compat import own_copy
from dbx.tl._velocity import used_genes

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def velocity_graph(
    adata: AnnData | MuData,
    *,
    vkey: str = "velocity",
    xkey: str = "Ms",
    n_recurse_neighbors: int = 2,
    random_neighbors_at_max: int | None = None,
    sqrt_transform: bool | None = None,
    gene_subset: Sequence[str] | None = None,
    scale: float = 10.0,
    self_transitions: bool = True,
    use_negative_cosines: bool = False,
    neighbors_key: str | None = None,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Correlate velocities with displacements to nearby cells (Bergen et al., Nature Biotechnology, 2020).

    As ``scvelo.tl.velocity_graph`` with ``scvelo.utils.get_transition_matrix``, except that the graphs are in
    ``obsp``, where they stay right when cells are removed. An edge from cell i to cell j has the Pearson correlation,
    over the genes whose velocities are used, of x_j - x_i with the velocity of cell i. Probabilities of transitions are
    the row-normalised exp(scale r) of these correlations r. Two steps are recorded, and new cells get their edges into
    the reference.

    Parameters
    ----------
    adata
        Annotated data with velocities and neighbours.
    vkey
        Key of the velocities.
    xkey
        Layer with the positions of cells.
    n_recurse_neighbors
        Number of edges to nearest neighbours within which cells are reached.
    random_neighbors_at_max
        Most cells that each is correlated with, drawn with a fixed seed among those reached.
    sqrt_transform
        Whether square roots of velocities and displacements are taken, with their signs; by default for velocities of
        ``mode="stochastic"``.
    gene_subset
        Names of genes to restrict the correlations to.
    scale
        Factor of correlations in the exponent.
    self_transitions
        Whether cells whose largest correlation is low may stay where they are.
    use_negative_cosines
        Give negative correlations negative entries; rows of absolute values then sum to 1.
    neighbors_key
        Key of the neighbours in ``uns``; ``"neighbors"`` by default.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData to work on.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obsp[f"{vkey}_graph"]``, ``obsp[f"{vkey}_graph_neg"]``
        Correlations above and below 0, CSR matrices of shape (n_cells, n_cells), float32.
    ``obsp["T_fwd"]``
        Probabilities of transitions, CSR matrix of the same shape, float64; rows sum to 1.
    ``obs[f"{vkey}_self_transition"]``
        What the largest correlation of a cell lacks to the 98th percentile of all cells.

    Raises
    ------
    KeyError
        There are no velocities or no neighbours, or a gene does not exist.
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
    >>> dbx.tl.velocity_graph(adata)
    >>> adata.obsp["T_fwd"].shape
    (100, 100)
    """
    check_key(vkey, "vkey")
    check_whole(n_recurse_neighbors, 1, "n_recurse_neighbors")
    data = own_copy(adata, copy=copy)
    genes = used_genes(data, vkey, gene_subset, mod=mod)
    roots = _is_stochastic(data, vkey, mod) if sqrt_transform is None else sqrt_transform
    graphs = {"positive": f"obsp/{vkey}_graph", "negative": f"obsp/{vkey}_graph_neg"}
    transitions = VelocityTransitions(
        scale=scale, self_transitions=self_transitions, use_negative_cosines=use_negative_cosines
    )
    run_step(
        data,
        VelocityGraph(n_steps=n_recurse_neighbors, sqrt_transform=roots, at_most=random_neighbors_at_max),
        reads={
            "x": f"layers/{xkey}",
            "v": f"layers/{vkey}",
            "graph": neighbors_slot(data, "distances", neighbors_key, mod=mod),
        },
        writes=graphs,
        select=genes,
        name=f"{vkey}_graph",
        mod=mod,
    )
    run_step(
        data,
        transitions,
        reads=graphs,
        writes={"transitions": "obsp/T_fwd", "self_transition": f"obs/{vkey}_self_transition"},
        name=f"{vkey}_transitions",
        mod=mod,
    )
    return data if copy else None


def _is_stochastic(data: AnnData | MuData, vkey: str, mod: str | None) -> bool:
    about = Slot("uns", (f"{vkey}_params",), mod)
    return exists(data, about) and read(data, about).get("mode") == "stochastic"
