"""PHATE: cells laid out by the distances of what random walks from them reach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.ops.checks import check_known, check_number, check_whole, check_whole_or_auto
from dbx.ops.diffusion import markov
from dbx.ops.diffusion.landmarks import landmark_walk, members, spectral_clusters
from dbx.ops.diffusion.potential import Walk, diffused, entropies, knee, potential_distances, potentials
from dbx.ops.layout.mds import classical_mds, smacof, turned_to
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Reference, silent
from dbx.ops.values import Array, Edges, Graph

Scaling = Literal["metric", "nonmetric", "classic"]
Metric = Literal[
    "euclidean", "cosine", "correlation", "cityblock", "chebyshev", "braycurtis", "canberra", "sqeuclidean"
]

MOST_WHOLE = 10_000
"""Cells up to which all of them can be laid out by the matrix of their distances."""
MONOTONE_TOLERANCE = 1e-4
"""Relative decrease of the stress at which non-metric scaling stops, which goes on for long in tiny steps."""


class Phate(Operator):
    """A layout by potential distances: those of -log(P^t + 1e-7), with the row-normalised weights P of a graph.

    With ``t="auto"`` t is the knee of the entropy of the singular values of P^t. ``gamma`` below 1 replaces the
    logarithm by a power, and -1 by nothing. More than ``n_landmark`` cells are replaced by that many spectral clusters
    and the walk between those; cells are then the means of the clusters that a step from them reaches.

    Classical scaling of the distances is the start of stress majorisation, whose result is rotated back to it and keeps
    the scale of the distances.

    Moon et al., Nature Biotechnology 2019. The reference implementation is phate.

    New cells: the mean of the reference cells' landmarks, or of those cells themselves, weighted by its edges.
    """

    name = "phate"
    inputs: ClassVar = {"graph": Input(kind="graph")}
    outputs: ClassVar = {
        "z": Output(content="embedding"),
        "landmark": Output(),
        "steps": Output(axis="none", dtype=None, view=True),
        "entropy": Output(axis="none", dtype="float64", view=True),
        "stress": Output(axis="none", dtype=None, view=True),
    }
    result = "z"
    rowwise = True
    host = True

    def __init__(
        self,
        *,
        n_components: int = 2,
        n_landmark: int | None = 2000,
        t: int | Literal["auto"] = "auto",
        gamma: float = 1.0,
        mds: Scaling = "metric",
        mds_dist: Metric = "euclidean",
    ):
        check_whole(n_components, 1, "n_components")
        if n_landmark is not None:
            check_whole(n_landmark, n_components + 1, "n_landmark")
        check_whole_or_auto(t, 1, "t")
        check_number(gamma, "gamma")
        if not -1 <= gamma <= 1:
            msg = f"gamma must be from -1 (distances of probabilities) to 1 (of their logarithms); got {gamma}."
            raise ValueError(msg)
        check_known(mds, get_args(Scaling), "mds")
        check_known(mds_dist, get_args(Metric), "mds_dist")
        self.n_components = n_components
        self.n_landmark = n_landmark
        self.t = t
        self.gamma = gamma
        self.mds = mds
        self.mds_dist = mds_dist

    @property
    def references(self) -> Mapping[str, str]:
        """Positions of the fitted cells and, with landmarks, of each cell's landmark."""
        return {"embedding": "z"} if self.n_landmark is None else {"embedding": "z", "anchors": "landmark"}

    def fit(self, *, graph: sparse.csr_matrix, seed: int = 0, progress: Progress = silent) -> None:
        """Lay out the cells of a graph of shape (n_cells, n_cells) with symmetric weights."""
        markov.check_weights(graph, symmetric=True)
        kernel = markov.with_loops_of_isolated(sparse.csr_matrix(graph, dtype=np.float64))
        n = kernel.shape[0]
        self._check_size(n)
        if self.n_landmark is None or n <= self.n_landmark:
            positions = self._laid_out(Walk(kernel, markov.row_sums(kernel)), progress)
            anchors = positions
        else:
            clusters = spectral_clusters(kernel, self.n_landmark, seed)
            landmarks = self._laid_out(landmark_walk(kernel, clusters), progress)
            positions = markov.row_normalised(kernel @ members(clusters).T) @ landmarks
            anchors = landmarks[clusters]
        self.embedding = Reference(positions.astype(np.float32))
        if self.n_landmark is not None:
            self.anchors = Reference(anchors.astype(np.float32))

    def _check_size(self, n: int) -> None:
        if n <= self.n_components:
            msg = f"n_components={self.n_components} dimensions need more than {n} cells: choose less."
            raise ValueError(msg)
        if n > MOST_WHOLE and (self.n_landmark is None or self.n_landmark > MOST_WHOLE):
            msg = (
                f"Without landmarks, {n} cells need several dense matrices of {8e-9 * n**2:.1f} GB each: pass "
                f"n_landmark=2000, or any number up to {MOST_WHOLE}."
            )
            raise ValueError(msg)

    def _laid_out(self, walk: Walk, progress: Progress) -> np.ndarray:
        """Positions of the states of a walk, an array of shape (n_states, n_components)."""
        curve = entropies(walk)
        t = knee(curve) if self.t == "auto" else self.t
        distances = potential_distances(potentials(diffused(walk, t), self.gamma), self.mds_dist)
        if not distances.any():
            msg = (
                "All cells are the same to the walk: their potential distances are 0, so that there is nothing to lay "
                "out. Check that cells differ, and pass a smaller t or a larger gamma if they do."
            )
            raise ValueError(msg)
        start = classical_mds(distances, self.n_components)
        found = smacof(distances, start, max_iter=0 if self.mds == "classic" else None, progress=progress)
        if self.mds == "nonmetric":
            found = smacof(distances, found.points, metric=False, tol=MONOTONE_TOLERANCE, progress=progress)
        self.n_steps, self.curve = Constant(np.int64(t)), Constant(curve)
        self.misfit = Constant(np.float64(found.stress))
        return turned_to(found.points, start)

    @property
    def steps(self) -> int:
        """Number of steps t."""
        return int(self.n_steps[...])

    @property
    def entropy(self) -> np.ndarray:
        """Entropy of the singular values of powers of P, an array of shape (100,)."""
        return np.asarray(self.curve[...])

    @property
    def stress(self) -> float:
        """Squared differences of distances in the layout and potential distances, over those squared."""
        return float(self.misfit[...])

    def __call__(self, graph: Graph | Edges) -> dict[str, Array]:
        """Positions of cells, an array of shape (n_cells, n_components), and of their landmarks."""
        xp = np if isinstance(graph, Edges) else jnp
        names = list(self.references)
        stored = [xp.asarray(getattr(self, name)[...]) for name in names]
        fitted, at = graph.rows >= 0, xp.maximum(graph.rows, 0)
        if xp is np and fitted.all():
            return {self.references[name]: value[at] for name, value in zip(names, stored, strict=True)}
        columns = xp.concatenate([stored[-1], xp.ones_like(stored[-1][:, :1])], axis=1)
        sums = markov.neighbour_sums(graph, columns)
        placed = sums[:, :-1] / xp.where(sums[:, -1:] > 0, sums[:, -1:], 1)
        return {
            self.references[name]: xp.where(fitted[:, None], value[at].astype(placed.dtype), placed)
            for name, value in zip(names, stored, strict=True)
        }
