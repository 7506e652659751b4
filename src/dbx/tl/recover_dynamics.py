"""Kinetic rates of genes, with scVelo's keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from dbx.ops.checks import UnknownNameError, as_names, check_known, listed
from dbx.ops.dynamics.recover_dynamics import OF_GENES, RecoverDynamics
from dbx.program import Slot, check_key, exists, gene_names, neighbors_slot, read, resolve_seed, run_step

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def recover_dynamics(
    adata: AnnData | MuData,
    var_names: str | Sequence[str] = "velocity_genes",
    *,
    max_iter: int = 10,
    assignment_mode: Literal["projection"] = "projection",
    t_max: float | None = None,
    fit_scaling: bool | float = True,
    fit_basal_transcription: bool | None = None,
    steady_state_prior: str | None = None,
    add_key: str = "fit",
    neighbors_key: str | None = None,
    random_state: int | np.random.RandomState | None = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Fit rates of transcription, splicing and degradation of each gene (Bergen et al., Nature Biotechnology, 2020).

    As ``scvelo.tl.recover_dynamics``: a gene is off, is induced, and is repressed from the time ``fit_t_`` on, and each
    cell is at the nearest point of that curve of unspliced against spliced counts. All genes are fitted at once, each
    from the two nearest of nine starts, from early switches to repression from the full steady state.

    Counts of one time hardly tell rates apart, so that three penalties stand for what is usual: the ratio of gamma to
    beta is near that of the highest counts, the scaling of unspliced counts near its median over genes, and the switch
    not extreme. Time is relative. Here a common clock of all genes makes their velocities explain displacements between
    nearby cells. scVelo instead gives each gene the same total time; ``t_max`` is that of the median gene.

    Parameters
    ----------
    adata
        Annotated data with moments of :func:`dbx.pp.moments` and neighbours.
    var_names
        Genes to fit: their names, a boolean column of ``var``, or ``"all"``. ``"velocity_genes"`` without such a column
        are those with a good steady-state line.
    max_iter
        Steps of the parameters from each start; times are assigned anew after every four.
    assignment_mode
        How times are assigned: ``"projection"``.
    t_max
        Total time of a gene, 20 by default.
    fit_scaling
        Whether the scaling of unspliced counts is fitted; a number is used as it is, ``False`` is 1.
    fit_basal_transcription
        Whether the smallest counts of each gene are subtracted first.
    steady_state_prior
        Boolean column of ``obs``: cells that are in a steady state.
    add_key
        What keys start with.
    neighbors_key
        Key of the neighbours in ``uns``; ``"neighbors"`` by default.
    random_state
        Seed of the pairs of cells by which clocks are set.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData to work on.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes, with NaN for genes that are not fitted:

    ``layers["fit_t"]``
        Time of each gene in each cell, array of shape (n_cells, n_genes), float32.
    ``layers["fit_velocity"]``
        Time derivative of spliced counts there, not averaged over neighbours yet.
    ``var["fit_alpha"]``, ``var["fit_beta"]``, ``var["fit_gamma"]``, ``var["fit_t_"]``, ``var["fit_scaling"]``
        Rates of transcription, splicing and degradation, time of the switch, and scaling of unspliced counts, as
        scVelo's.
    ``var["fit_likelihood"]``, ``var["fit_constant_likelihood"]``
        Geometric mean of the likelihoods of cells with high counts, and that of constant counts.
    ``var["fit_direction"]``
        By how much exchanging induction and repression would lower the mean log-likelihood of a cell.
    ``var["fit_agreement"]``
        Correlation of what velocities predict with displacements between nearby cells; below 0 where a gene moves
        against the others.
    ``var["fit_std_u"]``, ``var["fit_std_s"]``, ``var["fit_u0"]``, ``var["fit_s0"]``, ``var["fit_variance"]``
        Standard deviations and basal counts, and the mean squared distance from the curve in standard deviations.
    ``var["fit_alignment_scaling"]``, ``var["fit_r2"]``
        Units of time of a splicing time, and R2 of the steady-state line.

    Raises
    ------
    KeyError
        There are no moments or no neighbours, or a gene does not exist.
    ValueError
        No gene is to be fitted.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 50, 2, 1, seed=0)
    >>> adata.layers["spliced"] = adata.layers["unspliced"] = adata.X.copy()
    >>> dbx.pp.log1p(adata)
    >>> dbx.pp.pca(adata)
    >>> dbx.pp.neighbors(adata)
    >>> dbx.pp.moments(adata)
    >>> dbx.tl.recover_dynamics(adata, adata.var_names[:3])
    >>> int(adata.var["fit_alpha"].notna().sum())
    3
    """
    check_key(add_key, "add_key")
    check_known(assignment_mode, ("projection",), "assignment_mode")
    for moment in ("Ms", "Mu"):
        read(adata, Slot.parse(f"layers/{moment}", mod))
    operator = RecoverDynamics(
        genes=_numbers(adata, var_names, mod),
        max_iter=max_iter,
        t_max=20.0 if t_max is None else t_max,
        fit_scaling=fit_scaling,
        fit_basal_transcription=bool(fit_basal_transcription),
    )
    reads = {
        "ms": "layers/Ms",
        "mu": "layers/Mu",
        "graph": neighbors_slot(adata, "connectivities", neighbors_key, mod=mod),
    }
    return run_step(
        adata,
        operator,
        reads=reads | ({} if steady_state_prior is None else {"steady": f"obs/{steady_state_prior}"}),
        writes={
            "time": f"layers/{add_key}_t",
            "speed": f"layers/{add_key}_velocity",
            **{name: f"var/{add_key}_{name}" for name in OF_GENES},
        },
        seed=resolve_seed(random_state),
        copy=copy,
        mod=mod,
    )


def _numbers(data: AnnData | MuData, var_names: str | Sequence[str], mod: str | None) -> tuple[int, ...] | None:
    """Numbers of the genes to fit; None for those with a good line."""
    names = gene_names(data, Slot.parse("layers/Ms", mod))
    column = Slot("var", (var_names,), mod) if isinstance(var_names, str) else None
    if isinstance(var_names, str) and var_names == "all":
        return tuple(range(len(names)))
    if column is not None and exists(data, column):
        return _chosen(np.asarray(read(data, column)), column)
    if isinstance(var_names, str) and var_names == "velocity_genes":
        return None
    wanted = as_names(var_names, "var_names")
    if not wanted:
        msg = 'var_names names no gene: pass names, a boolean column of var, or "all".'
        raise ValueError(msg)
    unknown = [name for name in wanted if name not in names]
    if unknown:
        msg = f'var_names has {listed(unknown)}, which are not among the genes: pass names, or "all".'
        raise UnknownNameError(msg)
    return _chosen(np.asarray(names.isin(wanted)), Slot("var", ("index",), mod))


def _chosen(mask: np.ndarray, column: Slot) -> tuple[int, ...]:
    if mask.dtype != bool or not mask.any():
        msg = f"var_names must choose some genes; {column.written()} chooses no gene."
        raise ValueError(msg)
    return tuple(map(int, np.flatnonzero(mask)))
