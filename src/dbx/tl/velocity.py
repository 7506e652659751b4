"""RNA velocity of each gene in each cell, with scVelo's keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from dbx.ops.checks import as_names, check_known, check_layers
from dbx.ops.dynamics.local_velocity import LocalVelocity
from dbx.ops.dynamics.steady_state import SteadyState
from dbx.ops.dynamics.stochastic import StochasticVelocity
from dbx.ops.operator import Operator
from dbx.program import (
    Slot,
    check_key,
    looks_like_counts,
    neighbors_slot,
    read,
    representation_slot,
    resolve_seed,
    run_step,
)
from dbx.tl._dynamical import dynamical

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData

Mode = Literal["stochastic", "steady_state", "deterministic", "dynamical", "local"]


def velocity(
    adata: AnnData | MuData,
    *,
    mode: Mode = "stochastic",
    vkey: str = "velocity",
    fit_offset: bool = False,
    perc: Sequence[float] | None = None,
    min_r2: float | None = 0.01,
    min_ratio: float = 0.01,
    min_likelihood: float | None = 1e-3,
    groupby: str | None = None,
    groups_for_fit: str | Sequence[str] | None = None,
    constrain_ratio: Sequence[float] | float | None = None,
    use_latent_time: bool = False,
    time_key: str | None = None,
    layers: tuple[str, str] = ("spliced", "unspliced"),
    neighbors_key: str | None = None,
    random_state: int | np.random.RandomState | None = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Estimate the time derivative of spliced counts (Bergen et al., Nature Biotechnology, 2020).

    As ``scvelo.tl.velocity``. A velocity is the distance of unspliced counts from what a steady state would have at
    the same spliced counts: above it the gene is being induced, below it repressed. It is in units of unspliced counts
    (splicing rate 1), and its direction rests on that model: check it against what is known of the process.

    Parameters
    ----------
    adata
        Annotated data with moments of :func:`dbx.pp.moments`.
    mode
        ``"steady_state"`` (or ``"deterministic"``): the ratio of unspliced to spliced counts in the steady state is
        that of the cells with extreme counts. ``"stochastic"`` adds the second moments, which all cells contribute to.
        ``"dynamical"``: by the kinetics of :func:`dbx.tl.recover_dynamics`.
        ``"local"`` (not in scVelo): the graph of steady-state velocities gives a pseudotime, and a velocity is the
        slope of a gene on that time among the 100 nearest cells, blended with its steady-state velocity. It needs no
        rates and few counts, and gives directions with relative speeds; lengths of velocities mean nothing.
    vkey
        Key of what is written.
    fit_offset
        Whether lines have an intercept; cells with the lowest counts are then used, too.
    perc
        Percentiles of counts at or beyond which cells are used, ``(5, 95)`` by default; without ``fit_offset`` only the
        upper one counts.
    min_r2, min_ratio
        A gene's velocity is used if its line has a larger coefficient of determination and slope; ``mode="dynamical"``
        has no use for the slope, and takes ``min_r2=None``.
    min_likelihood
        With ``mode="dynamical"``, a gene's velocity is used if the likelihood of its kinetics is larger, also than that
        of constant counts.
    groupby, groups_for_fit
        Column of ``obs``, and those of its groups to fit the lines to; all cells by default.
    constrain_ratio
        Least and largest slope, or the largest alone.
    use_latent_time
        With ``mode="local"``, the same as ``time_key="latent_time"``: velocities along the time that all genes share
        (:func:`dbx.tl.latent_time`). In the dynamical mode each gene has a time of its own.
    time_key
        Column of ``obs`` with the time that ``mode="local"`` takes instead, such as latent or experimental time.
    layers
        Names of the layers with spliced and with unspliced counts, for second moments.
    neighbors_key
        Key in ``uns`` of the neighbours for second moments and the local mode; ``"neighbors"`` by default.
    random_state
        Seed of eigenvalue solvers and approximate neighbours of the local mode.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData to work on.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``layers[vkey]``
        Velocities, array of shape (n_cells, n_genes), float32: of all genes, also of those that are not used.
    ``layers[f"variance_{vkey}"]``
        What the second moments lack to their line, for ``mode="stochastic"``.
    ``var[f"{vkey}_gamma"]``, ``var[f"{vkey}_r2"]``, ``var[f"{vkey}_genes"]``
        Slope and coefficient of determination of each gene's line, and whether its velocity is used. With
        ``fit_offset`` also ``var[f"{vkey}_offset"]``; ``mode="local"`` writes only the last.
    ``obs[f"{vkey}_time"]``
        The time of ``mode="local"``.
    ``uns[vkey]["direction"]``
        Of ``mode="dynamical"``, over the genes that are used: ``swapping_loses``, the median of what exchanging
        induction and repression takes from the mean log-likelihood of a cell; ``better_swapped``, the share of genes
        that it would make likelier; ``against_others``, the share of genes that move against the others between nearby
        cells.
    ``uns[f"{vkey}_params"]``
        The mode and settings. Of ``mode="local"`` also ``agreement``, the Spearman correlation of the pseudotime from
        the root with that from the end: a low one means that there is no clear direction.

    Raises
    ------
    KeyError
        There are no moments.
    ValueError
        Fewer than two genes have a good line.

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
    >>> adata.layers["velocity"].shape
    (100, 50)
    """
    check_key(vkey, "vkey")
    check_known(mode, ("stochastic", "steady_state", "deterministic", "dynamical", "local"), "mode")
    if use_latent_time:
        time_key = _latent_time(mode, time_key)
    if mode == "dynamical":
        return dynamical(
            adata,
            vkey,
            min_likelihood=min_likelihood,
            min_r2=min_r2,
            neighbors_key=neighbors_key,
            seed=resolve_seed(random_state),
            copy=copy,
            mod=mod,
        )
    if min_r2 is None:
        msg = 'min_r2=None is for mode="dynamical"; pass a number, such as -10 for genes with any line.'
        raise ValueError(msg)
    settings = _settings(fit_offset, perc, min_r2, min_ratio, constrain_ratio, groupby, groups_for_fit)
    for moment in ("Ms", "Mu"):
        read(adata, Slot.parse(f"layers/{moment}", mod))  # missing moments are named before missing neighbours
    if time_key is not None and mode != "local":
        msg = f'time_key has no effect with mode={mode!r}: it is for mode="local".'
        raise ValueError(msg)
    reads = {"ms": "layers/Ms", "mu": "layers/Mu"} | ({} if groupby is None else {"groups": f"obs/{groupby}"})
    writes = {"velocity": f"layers/{vkey}", "velocity_genes": f"var/{vkey}_genes"}
    operator: Operator
    if mode == "local":
        operator, more = _local(adata, settings, neighbors_key, mod)
        reads |= more | ({} if time_key is None else {"time": f"obs/{time_key}"})
        writes |= {"time_used": f"obs/{vkey}_time", "agreement": f"uns/{vkey}_params/agreement"}
    else:
        writes |= {"gamma": f"var/{vkey}_gamma", "r2": f"var/{vkey}_r2"}
        writes |= {"offset": f"var/{vkey}_offset"} if fit_offset else {}
        operator = SteadyState(**settings)
    if mode == "stochastic":
        check_layers(layers)
        slots = {name: f"layers/{layer}" for name, layer in zip(("spliced", "unspliced"), layers, strict=True)}
        counted = all(looks_like_counts(read(adata, Slot.parse(slot, mod))) for slot in slots.values())
        operator = StochasticVelocity(normalize=counted, **settings)
        reads |= {**slots, "graph": neighbors_slot(adata, "connectivities", neighbors_key, mod=mod)}
        writes["variance_velocity"] = f"layers/variance_{vkey}"
    about = {"mode": mode, "fit_offset": fit_offset, "perc": list(settings["perc"])}
    return run_step(
        adata,
        operator,
        reads=reads,
        writes=writes,
        constants={f"uns/{vkey}_params": about},
        name=vkey,
        seed=resolve_seed(random_state),
        copy=copy,
        mod=mod,
    )


def _latent_time(mode: str, time_key: str | None) -> str:
    """The column of the latent time, along which the local mode can take slopes.

    Raises
    ------
    ValueError
        In another mode, or with another time.
    """
    if mode != "local":
        msg = (
            f"use_latent_time=True is for mode='local', with mode={mode!r} it has no effect: for velocities along the "
            "latent time pass mode='local', use_latent_time=True."
        )
        raise ValueError(msg)
    if time_key not in (None, "latent_time"):
        msg = f"use_latent_time=True and time_key={time_key!r} name two times: pass one of them."
        raise ValueError(msg)
    return "latent_time"


def _local(
    data: AnnData | MuData, settings: dict[str, Any], neighbors_key: str | None, mod: str | None
) -> tuple[LocalVelocity, dict[str, str]]:
    """The operator, and what it reads besides moments."""
    others = {name: settings[name] for name in ("constrain_ratio", "groups_for_fit") if settings[name] is not None}
    if others or settings["fit_offset"]:
        msg = f"{', '.join(others) or 'fit_offset'} is not for mode='local', which estimates no rates: leave it out."
        raise ValueError(msg)
    about = read(data, Slot.parse(f"uns/{neighbors_key or 'neighbors'}", mod)).get("params", {})
    slot, n_pcs = representation_slot(data, about.get("use_rep"), about.get("n_pcs"), mod=mod)
    if slot is None:
        msg = "mode='local' looks for the nearest cells in principal components: call dbx.pp.pca(adata) first."
        raise ValueError(msg)
    chosen = {name: settings[name] for name in ("perc", "min_r2", "min_ratio")}
    return LocalVelocity(n_pcs=n_pcs, **chosen), {
        "x": slot,
        "distances": neighbors_slot(data, "distances", neighbors_key, mod=mod),
    }


def _settings(
    fit_offset: bool, perc, min_r2: float, min_ratio: float, constrain_ratio, groupby: str | None, groups_for_fit
) -> dict[str, Any]:
    if (groupby is None) != (groups_for_fit is None):
        msg = 'Pass groupby and groups_for_fit together, such as groupby="cell_type", groups_for_fit=["a", "b"].'
        raise ValueError(msg)
    return {
        "fit_offset": fit_offset,
        "perc": percentiles(perc),
        "min_r2": min_r2,
        "min_ratio": min_ratio,
        "constrain_ratio": None if constrain_ratio is None else _range(constrain_ratio),
        "groups_for_fit": None if groups_for_fit is None else tuple(as_names(groups_for_fit, "groups_for_fit")),
    }


def percentiles(perc: Sequence[float] | float | None) -> tuple[float, float]:
    """A lower and an upper percentile."""
    if perc is None:
        return 5.0, 95.0
    given = (100.0 - perc, perc) if isinstance(perc, int | float) else tuple(perc)
    if len(given) != 2 or not 0 <= given[0] < given[1] <= 100:
        msg = f"perc must be two percentiles from 0 to 100, the lower one first; got {perc!r}."
        raise ValueError(msg)
    return float(given[0]), float(given[1])


def _range(bounds: Sequence[float] | float) -> tuple[float, float]:
    """The least and the largest slope; one number is the largest."""
    given = (0.0, bounds) if isinstance(bounds, int | float) else tuple(bounds)
    if len(given) != 2 or not 0 <= given[0] < given[1]:
        msg = f"constrain_ratio must be the least and the largest slope; got {bounds!r}."
        raise ValueError(msg)
    return float(given[0]), float(given[1])
