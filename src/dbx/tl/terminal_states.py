"""Roots and ends of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.ops.dynamics.terminal_states import TerminalStates
from dbx.program import check_key, neighbors_slot, resolve_seed, run_step

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData


def terminal_states(
    adata: AnnData | MuData,
    *,
    vkey: str = "velocity",
    groupby: str | None = None,
    scale: float = 10.0,
    eps: float = 1e-3,
    neighbors_key: str | None = None,
    random_state: int | np.random.RandomState | None = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Find the cells where a process starts and ends, by its velocities (Bergen et al., Nature Biotechnology, 2020).

    As ``scvelo.tl.terminal_states``: ends are where transitions lead in the long run, roots where the reversed ones do.
    If velocities point the wrong way, roots and ends are exchanged.

    Parameters
    ----------
    adata
        Annotated data with the graph of :func:`dbx.tl.velocity_graph`.
    vkey
        Key of the velocities.
    groupby
        Column of ``obs`` with groups that are processes of their own, such as lineages: each has its own roots and
        ends, without the edges to other groups.
    scale
        Factor of correlations in the exponent of probabilities.
    eps
        An eigenvalue of the transitions counts as 1 if it is at least 1 - eps.
    neighbors_key
        Key of the neighbours in ``uns``; ``"neighbors"`` by default.
    random_state
        Seed of the start of the eigenvalue solver.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData to work on.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obs["root_cells"]``, ``obs["end_points"]``
        How much each cell is a root and an end, from 0 to 1.

    Raises
    ------
    KeyError
        There is no graph of velocities, or there are no neighbours.

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
    >>> dbx.tl.terminal_states(adata)
    >>> float(adata.obs["end_points"].max())
    1.0
    """
    check_key(vkey, "vkey")
    return run_step(
        adata,
        TerminalStates(scale=scale, eps=eps),
        reads=({} if groupby is None else {"groups": f"obs/{groupby}"})
        | {
            "positive": f"obsp/{vkey}_graph",
            "negative": f"obsp/{vkey}_graph_neg",
            "distances": neighbors_slot(adata, "distances", neighbors_key, mod=mod),
        },
        writes={"roots": "obs/root_cells", "ends": "obs/end_points"},
        seed=resolve_seed(random_state),
        copy=copy,
        mod=mod,
    )
