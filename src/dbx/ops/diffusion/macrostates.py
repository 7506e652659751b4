"""States that a random walk seldom leaves, and those of them in which it ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from scipy import sparse

from dbx._warnings import warn
from dbx.ops.checks import check_whole
from dbx.ops.diffusion.gpcca import coarse_transitions, memberships
from dbx.ops.diffusion.markov import check_weights, with_loops_of_isolated
from dbx.ops.diffusion.schur import Schur, leading_schur
from dbx.ops.diffusion.walk_operator import WalkOperator, one_column
from dbx.ops.diffusion.walks import Kernel, Scheme
from dbx.ops.operator import Constant, Input, Output, Progress, Reference, silent
from dbx.ops.values import Codes

MOST_VALUES = 20
"""Eigenvalues among which the largest gap is sought."""
STABLE = 0.96
"""Coarse self-transition from which on a state is an end."""


class Macrostates(WalkOperator):
    """Metastable states of a random walk by GPCCA, and the cells of those that are ends.

    Memberships are made of the leading real Schur vectors of the transitions, as crisp as possible. Without
    ``n_states`` there are as many states as eigenvalues before their largest gap among the first 20, at least two.
    Ends are the states in which a walk stays with a probability of .96 or more, or the most stable one. States are
    named by their number, the most stable first; their cells are the ``n_cells`` with the highest membership.

    The transitions are those of :class:`dbx.ops.FateProbabilities`. Results are conclusions about these cells.

    Reuter et al., Journal of Chemical Theory and Computation 2018; Lange et al., Nature Methods 2022. The reference
    implementations are pyGPCCA and CellRank 2.
    """

    name = "macrostates"
    inputs: ClassVar = {"graph": Input(kind="graph"), "time": Input(kind="columns", optional=True)}
    outputs: ClassVar = {
        "ends": Output(dtype="category", view=True, inference=True),
        "states": Output(dtype="category", view=True, inference=True),
        "memberships": Output(dtype="float64", view=True, inference=True),
        "coarse": Output(axis="none", dtype="float64", view=True, inference=True),
        "eigenvalues": Output(axis="none", dtype="float64", view=True, inference=True),
    }
    references: ClassVar = {"ends": "ends", "states": "states", "memberships": "memberships"}
    precision = "float64"

    def __init__(
        self,
        *,
        kernel: Kernel = "pseudotime",
        scheme: Scheme = "hard",
        frac_to_keep: float = 0.3,
        b: float = 10.0,
        nu: float = 0.5,
        weight_connectivities: float = 0.0,
        n_states: int | None = None,
        n_cells: int = 30,
    ):
        super().__init__(
            kernel=kernel,
            scheme=scheme,
            frac_to_keep=frac_to_keep,
            b=b,
            nu=nu,
            weight_connectivities=weight_connectivities,
        )
        if n_states is not None:
            check_whole(n_states, 2, "n_states")
        check_whole(n_cells, 1, "n_cells")
        self.n_states = n_states
        self.n_cells = n_cells

    def fit(
        self,
        *,
        graph: sparse.csr_matrix,
        time: Mapping[str, np.ndarray] | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Find the states of a walk on a graph of shape (n_cells, n_cells)."""
        check_weights(graph)
        if self.kernel == "pseudotime":
            self.fit_scale(one_column(time))
        walk = with_loops_of_isolated(self.all_transitions(graph, time))
        schur = self._schur(walk, seed)
        n_states = self.n_states or before_gap(schur)
        self._check(schur, n_states)
        chi = memberships(schur.vectors[:, :n_states])
        stays = np.diag(coarse_transitions(walk, chi))
        chi = chi[:, np.argsort(-stays, kind="stable")]
        coarse = coarse_transitions(walk, chi)
        levels = tuple(str(i + 1) for i in range(n_states))
        cells = strongest(chi, self.n_cells)
        is_end = _stable(np.diag(coarse))
        ends = np.cumsum(is_end) - 1
        self.states = Reference(Codes(cells, levels))
        kept = tuple(level for level, end in zip(levels, is_end, strict=True) if end)
        self.ends = Reference(Codes(np.where((cells >= 0) & is_end[cells], ends[cells], -1).astype(np.int32), kept))
        self.memberships = Reference(chi)
        self.coarse = Constant(coarse)
        self.eigenvalues = Constant(np.column_stack([schur.values.real, schur.values.imag]))

    def _schur(self, walk: sparse.csr_matrix, seed: int) -> Schur:
        wanted = max(MOST_VALUES, (self.n_states or 0) + 1)
        return leading_schur(walk, min(wanted, walk.shape[0]), seed)

    def _check(self, schur: Schur, n_states: int) -> None:
        n_cells = len(schur.vectors)
        if n_states > len(schur.values):
            msg = f"n_states={n_states} are too many for {n_cells} cells: pass at most {len(schur.values)}."
            raise ValueError(msg)
        if schur.splits_pair(n_states):
            others = " or ".join(str(n) for n in (n_states - 1, n_states + 1) if n > 1)
            msg = f"n_states={n_states} would split a pair of conjugate eigenvalues: pass {others}."
            raise ValueError(msg)


def before_gap(schur: Schur) -> int:
    """Number of eigenvalues before their largest gap, at least 2; a pair of conjugate ones is not split."""
    real = schur.values.real
    gaps = {n: real[n - 1] - real[n] for n in range(2, len(real)) if not schur.splits_pair(n)}
    return max(gaps, key=lambda n: gaps[n], default=min(2, len(real)))


def strongest(chi: np.ndarray, n_cells: int) -> np.ndarray:
    """State of the ``n_cells`` cells with the highest membership in it among those it is the likeliest of; -1 else."""
    likeliest = chi.argmax(axis=1)
    chosen = np.full(len(chi), -1, np.int32)
    for state in range(chi.shape[1]):
        cells = np.flatnonzero(likeliest == state)
        chosen[cells[np.argsort(-chi[cells, state], kind="stable")[:n_cells]]] = state
    return chosen


def _stable(stays: np.ndarray) -> np.ndarray:
    """Which states are ends, of those by falling self-transition."""
    if stays[0] < STABLE:
        warn(
            f"No macrostate is left as seldom as a terminal state should be (self-transition {STABLE} or more): the "
            f"most stable one is taken, with {stays[0]:.3f}. Pass n_states, or name the terminal states."
        )
        return np.arange(len(stays)) == 0
    return stays >= STABLE
