"""Pseudotime in the direction of velocities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbx.ops.dynamics.velocity_pseudotime import VelocityPseudotime
from dbx.program import Slot, all_or_nothing, check_key, log, neighbors_slot, read, resolve_seed, run_step
from dbx.program.compat import own_copy
from dbx.tl._velocity import terminal_slots
from dbx.tl.terminal_states import terminal_states

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

AGREE = 0.5
"""Correlation of the times from the root and to the end below which there is a warning."""


def velocity_pseudotime(
    adata: AnnData | MuData,
    *,
    vkey: str = "velocity",
    groupby: str | None = None,
    root_key: str | None = None,
    end_key: str | None = None,
    n_dcs: int = 10,
    neighbors_key: str | None = None,
    random_state: int | np.random.RandomState | None = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Order cells by diffusion on the graph of velocities (Haghverdi et al., Nature Methods, 2016; scVelo).

    As ``scvelo.tl.velocity_pseudotime``: the mean of the time from the root and the reversed time from the end, where
    root and end are those of :func:`dbx.tl.terminal_states`, computed here whatever an earlier call left, or are
    passed. The two times need not agree: a warning says if they do not.

    Parameters
    ----------
    adata
        Annotated data with the graph of :func:`dbx.tl.velocity_graph`.
    vkey
        Key of the velocities.
    groupby
        Column of ``obs`` with groups that are processes of their own, such as lineages: each has its own root, end and
        time, without the edges to other groups.
    root_key, end_key
        Column of ``obs`` that is highest, or True, in root (end) cells, or the name of a cell. With a root but no end,
        the time is that from the root.
    n_dcs
        Number of diffusion components.
    neighbors_key
        Key of the neighbours in ``uns``; ``"neighbors"`` by default.
    random_state
        Seed of the start of the eigenvalue solvers.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData to work on.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obs[f"{vkey}_pseudotime"]``
        Pseudotime from 0 to 1; infinite for cells that neither the root nor the end reaches.
    ``uns[f"{vkey}_pseudotime"]``
        ``agreement``: Spearman correlation of the times from the root and from the end, the lowest of the groups.
    ``obs["root_cells"]``, ``obs["end_points"]``
        As :func:`dbx.tl.terminal_states`, if no root is passed.

    Raises
    ------
    KeyError
        There is no graph of velocities, or the root does not exist.
    ValueError
        The root's column is constant or not of numbers.

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
    >>> dbx.tl.velocity_pseudotime(adata, root_key=adata.obs_names[0])
    >>> float(adata.obs["velocity_pseudotime"].iloc[0])
    0.0
    """
    check_key(vkey, "vkey")
    data = own_copy(adata, copy=copy)
    for name in (f"{vkey}_graph", f"{vkey}_graph_neg"):
        read(data, Slot("obsp", (name,), mod))
    settings, reads = terminal_slots(data, root_key, end_key, mod)
    reads |= {} if groupby is None else {"groups": f"obs/{groupby}"}
    operator = VelocityPseudotime(n_dcs=n_dcs, **settings)
    n_cells = read(data, Slot("obsp", (f"{vkey}_graph",), mod)).shape[0]
    if n_dcs > n_cells > 0:
        log.warn(f"n_dcs={n_dcs} is more than the {n_cells} cells, which have as many components: all are used.")
    with all_or_nothing(data, ["obs/root_cells", "obs/end_points"] if root_key is None else [], mod):
        if root_key is None:
            terminal_states(
                data, vkey=vkey, groupby=groupby, neighbors_key=neighbors_key, random_state=random_state, mod=mod
            )
            reads = {"root": "obs/root_cells", "end": "obs/end_points"} | reads
        run_step(
            data,
            operator,
            reads={
                "positive": f"obsp/{vkey}_graph",
                "negative": f"obsp/{vkey}_graph_neg",
                "graph": neighbors_slot(data, "connectivities", neighbors_key, mod=mod),
                **reads,
            },
            writes={"pseudotime": f"obs/{vkey}_pseudotime", "agreement": f"uns/{vkey}_pseudotime/agreement"},
            name=f"{vkey}_pseudotime",
            seed=resolve_seed(random_state),
            mod=mod,
        )
    _warn(data, vkey, mod)
    return data if copy else None


def _warn(data: AnnData | MuData, vkey: str, mod: str | None) -> None:
    agreement = float(read(data, Slot("uns", (f"{vkey}_pseudotime", "agreement"), mod)))
    if agreement < AGREE:
        log.warn(
            f"The times from the root and from the end disagree (Spearman correlation {agreement:.2f}): look at "
            "obs['root_cells'] and obs['end_points'], and pass root_key if you know where the process starts."
        )
    lost = int(np.isinf(read(data, Slot("obs", (f"{vkey}_pseudotime",), mod)).to_numpy()).sum())
    if lost:
        log.warn(f"{lost} cells are reached neither from the root nor from the end; their pseudotime is infinite.")
