"""Fate probabilities: where random walks on the graph of cells end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from dbx.ops.checks import UnknownNameError, as_names, listed
from dbx.ops.diffusion.fates import FateProbabilities
from dbx.ops.diffusion.macrostates import Macrostates
from dbx.program import (
    Slot,
    all_or_nothing,
    check_key,
    exists,
    graph_slot,
    read,
    resolve_seed,
    row_names,
    run_step,
)
from dbx.program.compat import own_copy
from dbx.program.record.registry import load

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

ROWS_SUM_TO_1 = 1e-3
"""Largest difference from 1 of the sum of a row of given transitions, which are normalised again."""

MACROSTATES = {
    "ends": "obs/term_states_{}",
    "states": "obs/macrostates_{}",
    "memberships": "obsm/macrostates_{}_memberships",
    "coarse": "uns/coarse_{}",
    "eigenvalues": "uns/eigenvalues_{}",
}


def fate_probabilities(
    adata: AnnData | MuData,
    terminal_states: str | Mapping[str, Iterable[str]] | None = None,
    *,
    kernel: Literal["pseudotime", "connectivity", "velocity"] | str = "pseudotime",
    time_key: str = "dpt_pseudotime",
    scheme: Literal["hard", "soft"] = "hard",
    frac_to_keep: float = 0.3,
    b: float = 10.0,
    nu: float = 0.5,
    weight_connectivities: float = 0.0,
    neighbors_key: str | None = None,
    n_states: int | None = None,
    n_cells: int = 30,
    solver: Literal["auto", "direct", "iterative"] = "auto",
    tol: float = 1e-6,
    key_added: str | None = None,
    random_state: int | np.random.RandomState | None = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Probability of each terminal state by random walks (Lange et al., Nature Methods, 2022).

    As ``cellrank.estimators.GPCCA.compute_fate_probabilities`` with the kernels of CellRank 2, whose names and keys
    these are: the probability that a walk from a cell stops at a terminal state before any other, by one linear system
    for all of them. An error of the solution is bounded by ``tol``, or the call fails. Cells that reach no terminal
    state have NaN, with a warning, and no walk enters them. New cells get the mean fate of their reference neighbours,
    weighted by their own transition probabilities.

    Parameters
    ----------
    adata
        The annotated data, with neighbours and, for ``kernel="pseudotime"``, pseudotime.
    terminal_states
        Column of ``obs`` (missing values are transient cells), or name -> names of cells. By default they are found:
        states that walks seldom leave, by GPCCA (Reuter et al., 2018), of which those with a probability of .96 or
        more to stay are terminal, or the most stable one, with a warning.
    kernel
        ``"pseudotime"``: weights of neighbours, those to earlier cells damped or dropped. ``"connectivity"``:
        density-normalised weights. ``"velocity"``: ``obsp["T_fwd"]`` of :func:`dbx.tl.velocity_graph`. Or the key of
        any transition matrix in ``obsp`` whose rows sum to 1.
    time_key
        Column of ``obs`` with pseudotime, on any scale.
    scheme
        ``"hard"`` drops edges to earlier cells except for the strongest ``frac_to_keep`` of a cell's edges (at most
        30); ``"soft"`` multiplies them by ``2 / (1 + exp(b dt))^(1 / nu)``, where dt is the difference of pseudotime
        scaled to 0..1.
    frac_to_keep
        Of the hard scheme.
    b, nu
        Of the soft scheme: how steeply, and from where on, edges are damped.
    weight_connectivities
        Weight of the transitions by connectivity, mixed with those by pseudotime.
    neighbors_key
        Key of ``uns`` with the neighbours.
    n_states
        Number of states among which terminal ones are sought; by default the number of eigenvalues before their
        largest gap among the first 20, at least 2.
    n_cells
        Number of cells of each state, those that belong to it most.
    solver
        ``"direct"`` factorises the system, ``"iterative"`` does not; by default up to 2,000 transient cells.
    tol
        Bound of the error of a probability.
    key_added
        Ending of the keys that are written instead of ``"fwd"``.
    random_state
        Seed of the start of the eigenvalue solver, with which states are found.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData to work on.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obsm["lineages_fwd"]``
        Fate probabilities, array of shape (n_cells, n_states), float64, in the order of the categories of
        ``obs["term_states_fwd"]``.
    ``obsm["absorption_times_fwd"]``
        Mean and variance of the number of steps to a terminal state, array of shape (n_cells, 2), float64.
    ``obs["term_states_fwd"]``
        Terminal state of its cells, categorical, missing for transient cells.
    ``obs["term_states_fwd_probs"]``
        1 for cells of a terminal state, 0 for others.
    ``obs["priming_degree_fwd"]``
        Entropy of the mean fate minus that of the cell's fate, in nats: high in committed cells.
    ``obsp["T_fwd"]``
        Transition probabilities, CSR, float64; not with transitions that are in ``obsp`` already.

    Where terminal states are found, also:

    ``obs["macrostates_fwd"]``
        State of the cells that belong to it most, categorical; states are numbered, the most stable first.
    ``obsm["macrostates_fwd_memberships"]``
        Memberships of cells in states, array of shape (n_cells, n_states), float64, rows sum to 1.
    ``uns["coarse_fwd"]``
        Transition matrix between states, array of shape (n_states, n_states).
    ``uns["eigenvalues_fwd"]``
        Leading eigenvalues of the transitions, real and imaginary part, array of shape (n_values, 2).

    Raises
    ------
    KeyError
        There are no neighbours, no such column, or no such entry of ``obsp``.
    ValueError
        A terminal state has no cell, names one that does not exist, or overlaps another; pseudotime has missing values;
        rows of transitions do not sum to 1; ``n_states`` are too many, or split a pair of conjugate eigenvalues.
    RuntimeError
        The system was not solved to ``tol``, or the eigenvalues were not found.

    Examples
    --------
    >>> import dbx
    >>> cells = dbx.datasets.simulate(200, 100, 3, 1, seed=0)
    >>> dbx.pp.normalize_total(cells)
    >>> dbx.pp.log1p(cells)
    >>> dbx.pp.pca(cells, n_comps=10)
    >>> dbx.pp.neighbors(cells, n_neighbors=60)
    >>> ends = {"one": cells.obs_names[:5], "other": cells.obs_names[5:10]}
    >>> dbx.tl.fate_probabilities(cells, ends, kernel="connectivity")
    >>> cells.obsm["lineages_fwd"].shape
    (200, 2)
    """
    check_key(key_added)
    key = key_added or "fwd"
    walk: dict[str, Any] = {
        "kernel": kernel if kernel in ("pseudotime", "connectivity") else "given",
        "scheme": scheme,
        "frac_to_keep": frac_to_keep,
        "b": b,
        "nu": nu,
        "weight_connectivities": weight_connectivities,
    }
    operator = FateProbabilities(**walk, solver=solver, tol=tol)
    finder = Macrostates(**walk, n_states=n_states, n_cells=n_cells)
    reads: dict[str, Any] = {"graph": _edges(adata, kernel, neighbors_key, mod)}
    if operator.kernel == "pseudotime":
        reads["time"] = (f"obs/{time_key}",)
    writes = {
        "fates": f"obsm/lineages_{key}",
        "steps": f"obsm/absorption_times_{key}",
        "states": f"obs/term_states_{key}",
        "confidence": f"obs/term_states_{key}_probs",
        "priming": f"obs/priming_degree_{key}",
    }
    if operator.kernel != "given":
        writes["transitions"] = f"obsp/T_{key}"
    data = own_copy(adata, copy=copy)
    named: dict[str, Any] = {}
    if terminal_states is not None and not isinstance(terminal_states, str):
        named[writes["states"]] = _named(data, terminal_states, mod)
    found = {} if terminal_states is not None else {name: slot.format(key) for name, slot in MACROSTATES.items()}
    with all_or_nothing(data, found.values(), mod):
        if found:
            run_step(data, finder, reads=reads, writes=found, seed=resolve_seed(random_state, None), mod=mod)
        reads["ends"] = f"obs/{terminal_states}" if isinstance(terminal_states, str) else writes["states"]
        if reads["ends"] == writes["states"]:
            del writes["states"]
        run_step(data, operator, reads=reads, writes=writes, constants=named, mod=mod)
    return data if copy else None


def _edges(data, kernel: str, neighbors_key: str | None, mod: str | None) -> str:
    """The slot of the edges that a kernel walks along."""
    if kernel in ("pseudotime", "connectivity"):
        return graph_slot(data, neighbors_key, mod=mod)
    key = "T_fwd" if kernel == "velocity" else kernel
    slot = Slot.parse(f"obsp/{key}", mod)
    if kernel != "velocity" and not exists(data, slot):
        owner = slot.written().split("[")[0]
        msg = (
            f'kernel must be "pseudotime", "connectivity" or "velocity", or the key of a transition matrix in {owner}; '
            f"got {kernel!r}."
        )
        raise UnknownNameError(msg)
    writer = load(data).writer(slot)
    if kernel == "velocity" and writer is not None and writer.operator == FateProbabilities.name:
        msg = (
            f"{slot.written()} holds the transitions of {writer.name!r}, not of velocities: run "
            "dbx.tl.velocity_graph(adata) again, and pass key_added for fates by another kernel."
        )
        raise ValueError(msg)
    _check_rows(read(data, slot), slot.written())
    return f"obsp/{key}"


def _check_rows(transitions: Any, where: str) -> None:
    total = np.asarray(transitions.astype(np.float64).sum(axis=1)).ravel()
    off = int((np.abs(total - 1) > ROWS_SUM_TO_1)[total != 0].sum())
    if off:
        msg = (
            f"{off} of {len(total)} rows of {where} do not sum to 1: pass a transition matrix, or "
            'kernel="connectivity" for the weights of neighbours.'
        )
        raise ValueError(msg)


def _named(data, terminal_states: Mapping[str, Iterable[str]], mod: str | None) -> pd.Categorical:
    """The terminal state of each cell from the names of cells of each state."""
    names = row_names(data, Slot("obs", mod=mod))
    if not isinstance(terminal_states, Mapping):
        msg = f"terminal_states must be a column of obs, or name -> names of cells; got {terminal_states!r}."
        raise TypeError(msg)
    if not names.is_unique:
        msg = "Names of cells are not unique, so that they cannot name terminal states: adata.obs_names_make_unique()."
        raise ValueError(msg)
    states = pd.Series(pd.NA, index=names, dtype=object)
    for state, cells in terminal_states.items():
        chosen = as_names(cells, f"terminal_states[{state!r}]")
        _check_cells(states, str(state), chosen)
        states[chosen] = str(state)
    return pd.Categorical(states, categories=[str(state) for state in terminal_states])


def _check_cells(states: pd.Series, state: str, chosen: list) -> None:
    if not chosen:
        msg = f"The terminal state {state!r} has no cell: name some, or leave it out."
        raise ValueError(msg)
    absent = [cell for cell in chosen if cell not in states.index]
    if absent:
        names = listed(dict.fromkeys(map(str, absent)))
        msg = (
            f"The terminal state {state!r} names cells that are not there: {names}. Pass names of cells: "
            "list(adata.obs_names[...]) of their numbers, or of a mask."
        )
        raise ValueError(msg)
    taken = states[chosen].dropna()
    if len(taken):
        msg = (
            f"The terminal states {taken.iloc[0]!r} and {state!r} overlap in {len(taken)} cells "
            f"({listed(taken.index)}): each cell can be in one only."
        )
        raise ValueError(msg)
