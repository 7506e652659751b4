"""Doublet detection with Scrublet."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from dbx.ops.checks import check_known
from dbx.ops.droplets.calibrated import CalibratedDoublets
from dbx.ops.droplets.scrublet import Scrublet
from dbx.pp._given_doublets import given_doublets
from dbx.program import Slot, holder, log, matrix_slot, resolve_seed, run_step

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData


def scrublet(
    adata: AnnData | MuData,
    adata_sim: AnnData | None = None,
    *,
    batch_key: str | None = None,
    sim_doublet_ratio: float = 2.0,
    expected_doublet_rate: float = 0.05,
    stdev_doublet_rate: float = 0.02,
    synthetic_doublet_umi_subsampling: float = 1.0,
    knn_dist_metric: str = "euclidean",
    normalize_variance: bool = True,
    log_transform: bool = False,
    mean_center: bool = True,
    n_prin_comps: int = 30,
    use_approx_neighbors: bool | None = None,
    get_doublet_neighbor_parents: bool = False,
    n_neighbors: int | None = None,
    threshold: float | None = None,
    verbose: bool = True,
    copy: bool = False,
    random_state: int | np.random.RandomState | None = 0,
    rng: int | np.random.Generator | None = None,
    method: Literal["scrublet", "calibrated"] = "scrublet",
    n_draws: int = 5,
    layer: str | None = None,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Find doublets, droplets with two cells, by the simulated ones among a cell's neighbours.

    Scrublet (Wolock et al., Cell Systems, 2019), as in scanpy: in each sample genes in at least 3 cells, cells with at
    least 3 of these genes, and the highly variable genes are chosen; doublets are simulated as sums of the counts of
    random pairs of cells; cells and doublets are scaled to one total and standardised by the cells' moments, and the
    components are those of the cells. A cell's score is the probability of being a doublet that follows from the
    fraction of simulated doublets among its neighbours. The reference implementation is ``scanpy.pp.scrublet``: the
    same seed gives the same pairs and the same scores. In contrast to it, neighbours are always exact; if the scores
    of simulated doublets do not have two modes with a threshold between them, or it would call most cells, the
    expected number of cells is called, with a warning; names of cells may be repeated; and cells that the filter
    removes have a score of NaN.

    ``method="calibrated"`` is dbx's: classifiers of cells against ``n_draws`` sets of simulated doublets, of which
    every other one loses up to half of its counts, as droplets seldom yield those of two cells. They use the fraction
    of simulated doublets among 20 to 200 neighbours, in components of log-normalised counts, with total counts and
    detected genes. Cells count as singlets by their probability of being one, which is found by fitting again; log-odds
    are averaged, and shifted such that the mean probability is the expected rate, and the expected number of cells is
    called. It finds more doublets, needs no minimum between two modes, and its score is a probability; with
    ``batch_key`` neighbours are those of the same sample, and coefficients of small samples are close to those of all.
    It does not use the settings of the components' values and of neighbours.

    New cells (``dbx.rerun``) are compared with the reference's cells and simulated doublets of the same sample. The
    doublets of a new sample are simulated from its own cells; with ``"calibrated"`` its neighbours are those of all
    samples.

    Parameters
    ----------
    adata
        Raw counts of cells by genes; dense, sparse, backed or dask. With ``adata_sim``, values that are processed like
        those of the simulated doublets.
    adata_sim
        Simulated doublets, as from :func:`scrublet_simulate_doublets`, normalised, and with the same genes.
    batch_key
        Column of ``adata.obs`` with the sample: each is treated by itself. Simulated doublets that are passed are
        divided by the same column of ``adata_sim.obs`` or, if there is none, by the samples of the cells they are made
        of, and those of cells of two samples are left out.
    sim_doublet_ratio
        Simulated doublets per cell.
    expected_doublet_rate
        Fraction of doublets among the cells; about 0.008 per 1,000 cells loaded in a lane of 10x Genomics' droplets.
    stdev_doublet_rate
        Has no effect: the standard errors that it enters are not stored, as in scanpy.
    synthetic_doublet_umi_subsampling
        Probability with which each count of a simulated doublet is kept.
    knn_dist_metric
        Distance by which neighbours are found, one of those with a gradient in :func:`neighbors`.
    normalize_variance
        Divide the values of each gene by their standard deviation.
    log_transform
        Take logarithms before the components are computed.
    mean_center
        Subtract the mean of each gene.
    n_prin_comps
        Number of components; fewer, with a warning, if there are not so many.
    use_approx_neighbors
        Accepted for compatibility with scanpy; has no effect: neighbours are exact.
    get_doublet_neighbor_parents
        Also return the cells that the doublets among a cell's neighbours are made of.
    n_neighbors
        Neighbours among the observed cells; by default half of the square root of their number.
    threshold
        Score above which a cell is called a doublet; by default the minimum between the two modes of the histogram of
        simulated doublets.
    verbose
        Log the threshold and the rates that follow from it.
    copy
        Work on a copy and return it.
    random_state, rng
        Seed of the pairs.
    method
        ``"scrublet"`` for scanpy's scores, or ``"calibrated"``.
    n_draws
        Sets of simulated doublets for ``"calibrated"``; fewer if they would exceed 50,000 doublets in total.
    layer
        Layer with the counts instead of ``X``.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obs["doublet_score"]``
        Score, float64 (a probability in float32 with ``"calibrated"``); NaN for a cell that the filter removes.
    ``obs["predicted_doublet"]``
        Whether the score is above the threshold, bool.
    ``uns["scrublet"]``
        ``doublet_scores_sim``, array of shape (n_doublets,); ``doublet_parents``, array of shape (n_doublets, 2), the
        cells each is made of, as numbers among the cells that have a score; ``threshold``; and ``parameters``. With
        ``get_doublet_neighbor_parents``, ``doublet_neighbor_parents``: array with a row of such numbers for each cell,
        -1 at its end. With ``batch_key`` the same for each sample in ``batches``, where numbers are those among the
        cells of the sample, and ``batched_by``.

    Raises
    ------
    ValueError
        The matrix does not hold counts; too few cells or genes are left; a setting is out of range; the doublets do not
        match the cells.

    Examples
    --------
    >>> import dbx
    >>> cells = dbx.datasets.simulate(200, 100, 3, 1, seed=0)
    >>> dbx.pp.scrublet(cells, n_prin_comps=10, threshold=0.2)
    >>> cells.uns["scrublet"]["doublet_parents"].shape
    (400, 2)
    """
    check_known(method, ("scrublet", "calibrated"), "method")
    shared: dict[str, Any] = {
        "expected_doublet_rate": expected_doublet_rate,
        "sim_doublet_ratio": sim_doublet_ratio,
        "n_prin_comps": n_prin_comps,
        "threshold": threshold,
        "batched_by": batch_key,
    }
    of_scrublet = {
        "synthetic_doublet_umi_subsampling": synthetic_doublet_umi_subsampling,
        "knn_dist_metric": knn_dist_metric,
        "normalize_variance": normalize_variance,
        "log_transform": log_transform,
        "mean_center": mean_center,
        "n_neighbors": n_neighbors,
        "get_doublet_neighbor_parents": get_doublet_neighbor_parents,
    }
    if method == "calibrated":
        _refuse(method, of_scrublet | {"adata_sim": None if adata_sim is None else "passed"}, scrublet)
        operator: Any = CalibratedDoublets(n_draws=n_draws, **shared)
    else:
        _refuse(method, {"n_draws": n_draws}, scrublet)
        parents = of_scrublet.pop("get_doublet_neighbor_parents")
        given = adata_sim is not None
        operators: Any = Scrublet.declared({"given": given})
        operator = operators(**shared, **of_scrublet, neighbor_parents=parents, given=given)
    if adata_sim is not None:
        operator.passed, operator.sim_doublet_ratio = given_doublets(adata, adata_sim, batch_key, layer, mod)
    found = run_step(
        adata,
        operator,
        reads={"x": matrix_slot(layer)} | ({} if batch_key is None else {"batch": f"obs/{batch_key}"}),
        writes={"score": "obs/doublet_score", "doublet": "obs/predicted_doublet", "summary": "uns/scrublet"},
        name="scrublet",
        seed=resolve_seed(random_state, rng),
        copy=copy,
        mod=mod,
    )
    if verbose:
        _log(holder(adata if found is None else found, Slot("obs", mod=mod)), expected_doublet_rate)
    return found


def _refuse(method: str, settings: dict[str, Any], function: Callable) -> None:
    """Raise ValueError for settings of the other method that are not the defaults."""
    defaults = {name: inspect.signature(function).parameters[name].default for name in settings}
    changed = [name for name, value in settings.items() if value != defaults[name]]
    if changed:
        msg = f"method={method!r} does not use {', '.join(changed)}: leave it out, or use the other method."
        raise ValueError(msg)


def _log(cells: Any, expected: float) -> None:
    """The threshold and the rates of each sample."""
    summary = cells.uns["scrublet"]
    for name, sample in summary.get("batches", {"": summary}).items():
        mine = cells.obs[summary["batched_by"]].astype(str) == name if "batches" in summary else slice(None)
        scores = cells.obs["doublet_score"][mine].dropna()
        detected = (scores > sample["threshold"]).mean()
        detectable = (sample["doublet_scores_sim"] > sample["threshold"]).mean()
        overall = f"{detected / detectable:.1%}" if detectable > 0 else "unknown"
        log.info(
            f"    {f'{name}: ' if name else ''}threshold {sample['threshold']:.2f}: {detected:.1%} of the cells are "
            f"called; {detectable:.1%} of simulated doublets are above it: estimated rate {overall} (expected "
            f"{expected:.1%})"
        )
