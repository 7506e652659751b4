"""Latent time: a time of each cell from the kinetics of its genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbx.ops.dynamics.latent_time import LatentTime
from dbx.program import Slot, all_or_nothing, check_key, log, neighbors_slot, read, resolve_seed, run_step
from dbx.program.compat import own_copy
from dbx.tl._dynamical import likelihoods
from dbx.tl._velocity import terminal_slots
from dbx.tl.terminal_states import terminal_states

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

LATE = 0.5
"""Latent time of a given root above which there is a warning."""


def latent_time(
    adata: AnnData | MuData,
    *,
    vkey: str = "velocity",
    min_likelihood: float | None = 0.1,
    min_confidence: float = 0.75,
    min_corr_diffusion: float | None = None,
    weight_diffusion: float | None = None,
    root_key: str | None = None,
    end_key: str | None = None,
    t_max: float | None = None,
    groupby: str | None = None,
    neighbors_key: str | None = None,
    random_state: int | np.random.RandomState | None = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Order cells by the times of their genes (Bergen et al., Nature Biotechnology, 2020).

    As ``scvelo.tl.latent_time``: times of genes are counted from the roots, a cell's time is a low percentile of them,
    and cells that disagree with their neighbours take their time.

    Parameters
    ----------
    adata
        Annotated data with the kinetics of :func:`dbx.tl.recover_dynamics` and the graph of their velocities.
    vkey
        Key of the velocities.
    min_likelihood
        Least likelihood of a gene; one must also be likelier than constant counts.
    min_confidence
        Least agreement of a cell's time with that of its neighbours.
    min_corr_diffusion
        Least correlation of a gene's time with the pseudotime by diffusion.
    weight_diffusion
        Weight of the pseudotime by diffusion in the mean with latent time.
    root_key, end_key
        Column of ``obs`` that is 1 or True in root (end) cells, or the name of a cell. The roots are those of
        :func:`dbx.tl.terminal_states` by default.
    t_max
        Largest time, 1 by default.
    groupby
        Column of ``obs`` with groups that are processes of their own, such as lineages: each has its own root, end and
        time, without the edges to other groups.
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

    ``obs["latent_time"]``
        Time from 0 to 1 or ``t_max``.
    ``uns["latent_time"]``
        ``place``: where the roots are in the latent time from the roots of the velocities themselves. A warning says if
        that is late: then the root or the direction of the velocities is wrong.
    ``obs["root_cells"]``, ``obs["end_points"]``
        As :func:`dbx.tl.terminal_states`, if no root is passed.

    Raises
    ------
    KeyError
        There are no kinetics or no graph of velocities, or the root does not exist.
    ValueError
        Fewer than two genes are likely enough, or no cell is a root.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 50, 2, 1, seed=0)
    >>> adata.layers["spliced"] = adata.layers["unspliced"] = adata.X.copy()
    >>> dbx.pp.log1p(adata)
    >>> dbx.pp.pca(adata)
    >>> dbx.pp.neighbors(adata)
    >>> dbx.pp.moments(adata)
    >>> dbx.tl.recover_dynamics(adata, "all")
    >>> dbx.tl.velocity(adata, mode="dynamical", min_r2=None)
    >>> dbx.tl.velocity_graph(adata)
    >>> dbx.tl.latent_time(adata)
    >>> float(adata.obs["latent_time"].max())
    1.0
    """
    check_key(vkey, "vkey")
    data = own_copy(adata, copy=copy)
    genes = _genes(data, min_likelihood, mod)
    for name in (f"{vkey}_graph", f"{vkey}_graph_neg"):
        read(data, Slot("obsp", (name,), mod))
    settings, reads = terminal_slots(data, root_key, end_key, mod)
    reads |= {} if groupby is None else {"groups": f"obs/{groupby}"}
    operator = LatentTime(
        min_confidence=min_confidence,
        min_corr_diffusion=min_corr_diffusion,
        weight_diffusion=weight_diffusion,
        t_max=t_max,
        **settings,
    )
    with all_or_nothing(data, ["obs/root_cells", "obs/end_points"] if root_key is None else [], mod):
        if root_key is None:
            terminal_states(
                data, vkey=vkey, groupby=groupby, neighbors_key=neighbors_key, random_state=random_state, mod=mod
            )
            reads = {"root": "obs/root_cells"} | reads
        run_step(
            data,
            operator,
            reads={
                "time": "layers/fit_t",
                "positive": f"obsp/{vkey}_graph",
                "negative": f"obsp/{vkey}_graph_neg",
                "graph": neighbors_slot(data, "connectivities", neighbors_key, mod=mod),
                **reads,
            },
            writes={"latent": "obs/latent_time", "place": "uns/latent_time/place"},
            select=genes,
            seed=resolve_seed(random_state),
            mod=mod,
        )
    _warn(data, root_key, mod)
    return data if copy else None


def _genes(data: AnnData | MuData, min_likelihood: float | None, mod: str | None) -> np.ndarray:
    """Genes with a likely time, an array of shape (n_genes,), bool."""
    read(data, Slot("layers", ("fit_t",), mod))
    likelihood, least = likelihoods(data, min_likelihood, mod)
    genes = likelihood >= least
    if genes.sum() < 2:
        msg = (
            f"Only {int(genes.sum())} genes have a likelihood above that of constant counts and "
            f"min_likelihood={min_likelihood}; at least 2 are needed."
        )
        raise ValueError(msg)
    return genes


def _warn(data: AnnData | MuData, root_key: str | None, mod: str | None) -> None:
    place = float(read(data, Slot("uns", ("latent_time", "place"), mod)))
    if root_key is not None and place > LATE:
        log.warn(
            f"The root {root_key!r} lies late ({place:.2f} of 1) in the latent time that velocities give by "
            "themselves: either it is not where the process starts, or the velocities point the wrong way."
        )
