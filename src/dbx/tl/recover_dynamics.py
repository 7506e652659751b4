"""Kinetic rates of genes, with scVelo's keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from dbx.ops.checks import UnknownNameError, as_names, check_known, check_layers, listed
from dbx.ops.dynamics.count_dynamics import CountDynamics
from dbx.ops.dynamics.recover_dynamics import RecoverDynamics
from dbx.program import (
    Slot,
    check_key,
    exists,
    gene_names,
    looks_like_counts,
    neighbors_slot,
    read,
    resolve_seed,
    run_step,
)

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
    likelihood: Literal["gaussian", "counts"] = "gaussian",
    layers: tuple[str, str] = ("spliced", "unspliced"),
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

    ``likelihood="counts"`` goes on from that fit to moments with the counts of each cell as they are: negative
    binomial, the mean being the curve times the size of the cell (its total over the median one, in each layer), with
    an inverse dispersion of each gene and layer. A cell's times are weighted by its counts and, before these, by the
    moments of its neighbourhood, as the counts of one cell hardly tell a time. The fit takes several times as long. In
    simulations with few counts ratios of rates and signs of velocities came nearer to the truth, but the cosine of
    velocities and latent time did not.

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
        Whether the smallest moments of each gene are taken for basal counts, ``fit_u0`` and ``fit_s0``, which the curve
        is above. This is scVelo's name; there is no other for it.
    steady_state_prior
        Boolean column of ``obs``: cells that are in a steady state.
    likelihood
        ``"gaussian"``, of the distances of moments from the curve, or ``"counts"``, negative binomial.
    layers
        Names of the layers with spliced and with unspliced counts, for ``likelihood="counts"``.
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
        Geometric mean of the likelihoods of cells with high counts, and that of constant counts. With
        ``likelihood="counts"`` these are probabilities of both counts of a cell, the geometric mean over all cells, at
        the times in ``fit_t`` and at one level for all cells: they are the lower, the more is counted, so that they
        compare with each other but with no fixed number. Use ``min_likelihood=None`` in :func:`dbx.tl.latent_time`.
    ``var["fit_direction"]``
        By how much exchanging induction and repression would lower the mean log-likelihood of a cell.
    ``var["fit_agreement"]``
        Correlation of what velocities predict with displacements between nearby cells; below 0 where a gene moves
        against the others.
    ``var["fit_std_u"]``, ``var["fit_std_s"]``, ``var["fit_u0"]``, ``var["fit_s0"]``, ``var["fit_variance"]``
        Standard deviations and basal counts, and the mean squared distance from the curve in standard deviations. With
        ``likelihood="counts"`` basal counts are at least a hundredth of the mean, and there is no ``fit_variance``.
    ``var["fit_theta_u"]``, ``var["fit_theta_s"]``
        With ``likelihood="counts"``, inverse dispersions of unspliced and of spliced counts, from 0.02 to 10,000, which
        is Poisson.
    ``var["fit_alignment_scaling"]``, ``var["fit_r2"]``
        Units of time of a splicing time, and R2 of the steady-state line.

    Raises
    ------
    KeyError
        There are no moments or no neighbours, or a gene does not exist.
    ValueError
        No gene is to be fitted, or layers do not hold counts with ``likelihood="counts"``.

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
    check_known(likelihood, ("gaussian", "counts"), "likelihood")
    for moment in ("Ms", "Mu"):
        read(adata, Slot.parse(f"layers/{moment}", mod))
    counted = likelihood == "counts"
    kind: type[RecoverDynamics] = CountDynamics if counted else RecoverDynamics
    operator = kind(
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
    if counted:
        reads |= _counts(adata, layers, mod)
    return run_step(
        adata,
        operator,
        reads=reads | ({} if steady_state_prior is None else {"steady": f"obs/{steady_state_prior}"}),
        writes={
            "time": f"layers/{add_key}_t",
            "speed": f"layers/{add_key}_velocity",
            **{name: f"var/{add_key}_{name}" for name in operator.kept},
        },
        seed=resolve_seed(random_state),
        copy=copy,
        mod=mod,
    )


def _counts(data: AnnData | MuData, layers: tuple[str, str], mod: str | None) -> dict[str, str]:
    """Slots of the counts.

    Raises
    ------
    ValueError
        A layer does not hold counts, or these are not two layers.
    """
    check_layers(layers)
    for name in layers:
        slot = Slot("layers", (name,), mod)
        if not looks_like_counts(read(data, slot)):
            msg = (
                f'likelihood="counts" needs counts as they were measured, but {slot.written()} does not hold whole '
                'numbers: name the layers with counts by layers=, or use likelihood="gaussian".'
            )
            raise ValueError(msg)
    return {"spliced": f"layers/{layers[0]}", "unspliced": f"layers/{layers[1]}"}


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
