"""Couplings between cells of consecutive times by optimal transport."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from dbx.ops.checks import check_whole_or_auto
from dbx.ops.transport.low_rank_trajectory import OTLowRank
from dbx.ops.transport.times import given_pairs
from dbx.ops.transport.trajectory import OTTrajectory
from dbx.program import Slot, all_or_nothing, check_key, read, resolve_seed, run_step
from dbx.program.compat import own_copy
from dbx.tl._marker_growth import checked_markers, growth_columns, run_marker_growth

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData

    from dbx.tl._marker_growth import Markers

LOW_RANK, MAX_CELLS = 100, 20_000
"""Rank that is chosen, and cells of a time up to which none is."""


def ot_trajectory(
    adata: AnnData | MuData,
    time_key: str,
    *,
    use_rep: str = "X_pca",
    time_pairs: Iterable[tuple[float, float]] | None = None,
    epsilon: float = 0.05,
    tau_a: float = 0.95,
    tau_b: float = 0.999,
    scale_cost: Literal["median", "mean"] | float = "median",
    growth_key: str | None = None,
    growth_genes: Markers | Literal["human", "mouse"] | None = None,
    growth_iters: int | Literal["auto"] = "auto",
    growth_weight: float | Literal["auto"] = "auto",
    rank: int | Literal["auto"] = -1,
    batch_size: int | None = None,
    max_iterations: int = 5000,
    threshold: float = 1e-6,
    max_cells: int | Literal["auto"] = "auto",
    allow_unconverged: bool = False,
    key_added: str = "ot",
    random_state: int | np.random.RandomState | None = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Couple cells of consecutive times by optimal transport (Schiebinger et al., Cell, 2019).

    Entropic transport of squared Euclidean distances with penalised marginals, as in Waddington-OT and, with its names,
    ``moscot.problems.time.TemporalProblem``: P minimises <C, P> - epsilon H(P) + lambda_a KL(P 1 | a) +
    lambda_b KL(P' 1 | b), where tau = lambda / (lambda + epsilon), a is the expected number of descendants of a cell
    and b is the same for all cells of the later time. It is computed by row blocks: memory grows linearly with the
    number of cells. :func:`dbx.get.ot` returns the couplings, which :func:`dbx.rerun` extends to new cells of known
    times; a new time needs a new fit.

    Growth is a given number of descendants and not what transport could not explain: sums of rows of a coupling that is
    refined (``growth_iters``) predict fates better and growth worse. The growth that is written therefore comes from a
    solve of its own, with the given growth and a stronger penalty.

    Parameters
    ----------
    adata
        Annotated data with an embedding.
    time_key
        Column of ``obs`` with times: numbers, or categories whose names are numbers.
    use_rep
        Entry of ``obsm`` in which distances are taken.
    time_pairs
        Pairs of an earlier and a later time; all consecutive ones by default.
    epsilon
        Weight of the entropy, in units of the scale of costs. Values below 0.02 are reached from larger ones.
    tau_a, tau_b
        Penalties of the marginals of the earlier and the later time, between 0 and 1; 1 makes them exact.
    scale_cost
        What the distances of each pair are divided by: their median or mean (over a million sampled ones where there
        are more), or a number.
    growth_key
        Column of ``obs`` with the expected number of descendants of a cell per unit time, such as
        exp(birth - death); equal for all cells by default.
    growth_genes
        Markers of which growth is made instead: ``"human"`` or ``"mouse"`` for :func:`dbx.datasets.growth_markers`, or
        ``{"proliferation": [...], "apoptosis": [...]}``, each a list of genes, scored by :func:`dbx.tl.score_genes`
        with its defaults, or the name of a column of ``obs`` with scores. Growth is exp(birth - death), logistic
        functions of the scores between 0.3 and 1.7 per unit time: the rates of Waddington-OT per day, so times should
        be in days and expression log-normalised.
    growth_iters
        Number of solves, each but the first with the sums of rows of the one before as masses. By default 3 with
        given growth, as in Waddington-OT, and 1 without.
    growth_weight
        Penalty lambda_a of the solve for growth. ``"auto"``: of 1, 2, 5 and 10 the one whose growth agrees best with
        the given growth of held-out cells. Only used with given growth.
    rank
        Rank of the couplings: cells reach each other through so many clusters, in time and memory that grow linearly
        (Scetbon et al., ICML, 2021); -1 for full ones. ``"auto"``: full where times have up to ``max_cells`` cells, 100
        for more, or as many as the smallest time has cells. A coupling of low rank does not distinguish cells of one
        cluster; growth is the sums of rows of one solve, and :func:`dbx.tl.ot_fates` needs a full one. There are many
        optima, and k-means chooses the one that is found; derivatives, in which clusters move with the cells, are of
        that one.
    batch_size
        Number of rows of the coupling that are computed at once; by default as many as stay in the processor's cache.
    max_iterations
        Maximum number of iterations of a solve.
    threshold
        Largest relative error of the sum of a column at which iterations stop, when all sums of rows are right. With a
        rank also a thousandth of the mass that, by the last step, all further ones would still move between clusters.
    max_cells
        Cells of a time up to which ``rank="auto"`` means full couplings, 20,000 by default.
    allow_unconverged
        Accept solutions that did not reach ``threshold``.
    key_added
        Key in ``uns``, and start of those in ``obsm`` and ``obs``.
    random_state
        Seed of the sampled costs and of the held-out cells.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obsm["<key_added>_potentials"]``
        Dual potentials over epsilon, array of shape (n_cells, n_pairs x n_solves), float64, NaN where a cell is of
        neither time.
    ``obsm["<key_added>_factors"]``
        With a rank in place of potentials: logarithms of the rows of factors, of shape (n_cells, n_pairs x rank).
    ``obs["<key_added>_growth"]``
        Descendants of a cell per unit time, missing for cells without a later time.
    ``obs["<key_added>_prior_growth"]``, ``obs["<key_added>_proliferation"]``, ``obs["<key_added>_apoptosis"]``
        With ``growth_genes``: growth by the markers, and the scores of lists of genes.
    ``uns[key_added]["pairs"]``
        Table of the pairs of times: numbers of cells, scale of costs, iterations, largest relative error of a column's
        sum, whether it converged, penalty of growth.
    ``uns[key_added]["params"]``
        ``time_key`` and ``use_rep``, and the entries of ``obsm`` and ``obs`` with ``potentials`` (or ``factors``) and
        ``growth``.

    Raises
    ------
    KeyError
        There is no such embedding or column.
    ValueError
        There is one time only, a time with fewer than 2 cells, growth that is not above 0, a missing coordinate, or
        ``growth_genes`` beside ``growth_key``, without one of its lists, or of an organism whose genes are not there.
    RuntimeError
        A solve did not converge.

    Examples
    --------
    >>> import dbx
    >>> cells = dbx.datasets.simulate(200, 100, 3, 1, seed=0)
    >>> dbx.pp.normalize_total(cells)
    >>> dbx.pp.log1p(cells)
    >>> dbx.pp.pca(cells, n_comps=10)
    >>> cells.obs["day"] = [0.0, 1.0] * 100
    >>> dbx.tl.ot_trajectory(cells, "day")
    >>> bool(cells.uns["ot"]["pairs"]["converged"].all())
    True
    """
    check_key(key_added)
    if growth_genes is not None and growth_key is not None:
        msg = "growth_key and growth_genes both give growth; pass one of them."
        raise ValueError(msg)
    settings: dict[str, Any] = {
        "time_pairs": None if time_pairs is None else given_pairs(time_pairs),
        "epsilon": epsilon,
        "tau_a": tau_a,
        "tau_b": tau_b,
        "scale_cost": scale_cost,
        "max_iterations": max_iterations,
        "threshold": threshold,
        "allow_unconverged": allow_unconverged,
    }
    full: dict[str, Any] = {"growth_iters": growth_iters, "growth_weight": growth_weight, "batch_size": batch_size}
    rank = _rank(adata, Slot.parse(f"obs/{time_key}", mod), rank, max_cells)
    if rank != -1 and list(full.values()) != ["auto", "auto", None]:
        msg = f"{', '.join(full)} are of full couplings: leave them out, or pass rank=-1; got rank={rank}."
        raise ValueError(msg)
    operator = OTTrajectory(**full, **settings) if rank == -1 else OTLowRank(rank=rank, **settings)
    rows = "potentials" if rank == -1 else "factors"
    writes = {
        rows: f"obsm/{key_added}_{rows}",
        "growth_rates": f"obs/{key_added}_growth",
        "pairs": f"uns/{key_added}/pairs",
    }
    reads: dict[str, str | tuple[str, ...]] = {"z": f"obsm/{use_rep}", "time": (f"obs/{time_key}",)}
    params = {"time_key": time_key, "use_rep": use_rep, rows: f"{key_added}_{rows}", "growth": f"{key_added}_growth"}
    data, seed = own_copy(adata, copy=copy), resolve_seed(random_state)
    made = growth_columns(key_added).values() if growth_genes is not None else ()
    with all_or_nothing(data, [*writes.values(), *(f"obs/{column}" for column in made)], mod):
        if growth_genes is not None:
            markers = checked_markers(data, growth_genes, mod)
            growth_key = run_marker_growth(data, markers, key=key_added, seed=seed, mod=mod)
        if growth_key is not None:
            reads["growth"] = (f"obs/{growth_key}",)
        run_step(
            data,
            operator,
            reads=reads,
            writes=writes,
            constants={f"uns/{key_added}/params": params},
            seed=seed,
            mod=mod,
        )
    return data if copy else None


def _rank(adata: AnnData | MuData, times: Slot, rank: int | Literal["auto"], max_cells: int | Literal["auto"]) -> int:
    """The rank of couplings, -1 for full ones."""
    check_whole_or_auto(max_cells, 2, "max_cells")
    if rank == "auto":
        most = MAX_CELLS if max_cells == "auto" else max_cells
        sizes = read(adata, times).value_counts()
        sizes = sizes[sizes > 0]
        return min(LOW_RANK, int(sizes.min())) if sizes.max() > most else -1
    if rank != -1:
        check_whole_or_auto(rank, 1, "rank")
    return int(rank)
