"""Diffusion components of a graph of cells; new cells are placed by the Nystrom extension."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.ops.checks import check_whole
from dbx.ops.diffusion.eigenvectors import Walk, eigenvectors
from dbx.ops.diffusion.markov import DensityNormalised, check_weights, density_normalised, neighbour_sums
from dbx.ops.diffusion.spectrum import leading_eigenpairs
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Reference, silent
from dbx.ops.values import Array, Edges, Graph

LEAST = 1e-6
"""Absolute eigenvalue up to which a component says nothing of new cells."""


class DiffusionMap(Operator):
    """Leading eigenvectors of the symmetric, density-normalised transition matrix of a graph.

    T_s = z^-1 q^-1 K q^-1 z^-1 for the weights K, their row sums q and z^2 = q^-1 K q^-1 1. Eigenvectors have unit
    norm, by falling eigenvalue, the stationary state included. Each component of the graph has its own with
    eigenvalue 1, which is zero in the others.

    Coifman and Lafon, Applied and Computational Harmonic Analysis 2006; Haghverdi, Buettner and Theis, Bioinformatics
    2015. The reference implementation is ``scanpy.tl.diffmap``.

    New cells: the mean of their neighbours' components by transition probability, over the eigenvalue.
    """

    name = "diffmap"
    inputs: ClassVar = {"graph": Input(kind="graph")}
    outputs: ClassVar = {
        "z": Output(content="embedding"),
        "density": Output(),
        "evals": Output(axis="none", view=True),
    }
    rowwise = True
    of_all_cells = True
    host = True
    references: ClassVar = {"components": "z", "densities": "density"}

    def __init__(self, *, n_comps: int = 15):
        check_whole(n_comps, 1, "n_comps")
        self.n_comps = n_comps

    def fit(self, *, graph: sparse.csr_matrix, seed: int = 0, progress: Progress = silent) -> None:
        """Compute the eigenvectors for a graph of shape (n_cells, n_cells)."""
        check_weights(graph, symmetric=True)
        walk = density_normalised(graph)
        found = leading_eigenpairs(walk.symmetric, min(self.n_comps, graph.shape[0] - 1), which="magnitude", seed=seed)
        self._keep(walk, found.vectors, found.values)

    def take(self, graph: sparse.csr_matrix, vectors: np.ndarray, values: np.ndarray) -> float:
        """Keep eigenpairs that were computed elsewhere; returns the largest norm of ``T_s v - lambda v``."""
        walk = density_normalised(graph)
        self._keep(walk, vectors, values)
        return float(np.linalg.norm(walk.symmetric @ vectors - vectors * values, axis=0).max())

    def _keep(self, walk: DensityNormalised, vectors: np.ndarray, values: np.ndarray) -> None:
        self.components = Reference(jnp.asarray(vectors, jnp.float32))
        self.densities = Reference(jnp.asarray(walk.density, jnp.float32))
        self.eigenvalues = Constant(values)

    @property
    def evals(self) -> np.ndarray:
        """Eigenvalues, falling, an array of shape (n_comps,)."""
        return np.asarray(self.eigenvalues[...])

    def __call__(self, graph: Graph | Edges) -> dict[str, Array]:
        """Components of cells, an array of shape (n_cells, n_comps), and the sum of their edge weights."""
        xp = np if isinstance(graph, Edges) else jnp
        components, densities = (xp.asarray(reference[...]) for reference in (self.components, self.densities))
        fitted, stored = graph.rows >= 0, xp.maximum(graph.rows, 0)
        kept = components[stored], densities[stored]
        if xp is np and fitted.all():
            return {"z": kept[0], "density": kept[1]}
        placed = self._place(graph, components, densities, xp)
        kept = tuple(value.astype(placed[0].dtype) for value in kept)
        return {
            "z": xp.where(fitted[:, None], kept[0], placed[0]),
            "density": xp.where(fitted, kept[1], placed[1]),
        }

    def together(self, graph: Graph) -> dict[str, Array]:
        """Components of all fitted cells, by the eigenvectors of this graph; signs are those of the stored ones."""
        weights, stored = jnp.asarray(graph.weights), jnp.asarray(self.components[...])
        vectors, _, density = eigenvectors(
            weights, jnp.asarray(graph.indices), stored.astype(weights.dtype), Walk(density=True), 0
        )
        return {"z": vectors, "density": density}

    def _place(self, graph: Graph | Edges, components: Array, densities: Array, xp) -> tuple[Array, Array]:
        """Nystrom extension: (components, sum of weights) of new cells.

        The components themselves are averaged, with their factor of density, and not the right eigenvectors times one
        of the new cell's own: it lists edges in one direction only, whose sum hardly tells how dense cells are there.
        """
        values = xp.asarray(self.eigenvalues[...]).astype(components.dtype)
        used = xp.abs(values) > LEAST
        inverse = xp.where(used, 1 / xp.where(used, values, 1), 0)
        weighted = xp.concatenate([components, xp.ones_like(components[:, :1])], axis=1) / densities[:, None]
        sums = neighbour_sums(graph, xp.concatenate([weighted, xp.ones_like(components[:, :1])], axis=1))
        share, density = sums[:, -2], sums[:, -1]
        return sums[:, :-2] / xp.where(share > 0, share, 1)[:, None] * inverse, density
