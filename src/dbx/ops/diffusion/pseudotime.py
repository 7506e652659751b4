"""Diffusion pseudotime: distance from a root cell in diffusion components weighted by walks of every length."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.arrays import array_library
from dbx.ops.checks import check_whole
from dbx.ops.diffusion.markov import components, density_normalised, neighbour_sums, symmetric_sums
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Reference, silent
from dbx.ops.values import Array, Edges, Graph

STATIONARY = 0.9994
"""Eigenvalue from which on a component counts by its plain difference, as in scanpy."""


class DiffusionPseudotime(Operator):
    """Distance from the root cell, ``sqrt(sum_l w_l^2 (z_l - root_l)^2)``, over the largest finite one.

    w_l = lambda_l / (1 - lambda_l) sums walks of every length; where lambda_l is .9994 or more it is 1. Eigenvalues are
    Rayleigh quotients of the components in the graph. Cells in another component of the graph than the root are
    infinitely far.

    Haghverdi et al., Nature Methods 2016; Wolf et al., Genome Biology 2019. The reference implementation is
    ``scanpy.tl.dpt``.

    New cells: their distance from the root in the components; infinite without an edge to a cell that is reached.
    """

    name = "dpt"
    inputs: ClassVar = {"z": Input(), "graph": Input(kind="graph")}
    outputs: ClassVar = {"pseudotime": Output()}
    rowwise = True
    of_all_cells = True
    host = True
    references: ClassVar = {"times": "pseudotime"}

    def __init__(self, *, iroot: int, n_dcs: int = 10):
        check_whole(n_dcs, 1, "n_dcs")
        self.iroot = iroot
        self.n_dcs = n_dcs

    def fit(self, *, z: RowBlocks, graph: sparse.csr_matrix, seed: int = 0, progress: Progress = silent) -> None:
        """Weight the components and measure the distances of all cells."""
        place = z.dense()[:, : self.n_dcs].astype(np.float64)
        check_root(self.iroot, self.n_dcs, len(place), z.n_columns)
        self.weights = Constant(walk_weights(rayleigh_quotients(graph, place)))
        self.root = Constant(place[self.iroot])
        self.scale = Constant(np.float64(1))
        parts = components(graph)
        within = parts.labels == parts.labels[self.iroot]
        self.times = Reference(jnp.where(within, 0, jnp.inf).astype(jnp.float32))
        furthest = float(self._measured(z, graph)[within].max())
        self.scale = Constant(np.float64(furthest if furthest > 0 else 1))
        self.times = Reference(jnp.asarray(self._measured(z, graph)))

    def _measured(self, z: RowBlocks, graph: sparse.csr_matrix) -> np.ndarray:
        rows = np.arange(graph.shape[0], dtype=np.int32)
        return apply(self, {"z": z, "graph": Edges(graph, rows)}, len(rows))["pseudotime"]

    def __call__(self, z: Array, graph: Graph | Edges) -> dict[str, Array]:
        """Pseudotime, an array of shape (n_cells,)."""
        xp = np if isinstance(graph, Edges) else jnp
        reached = xp.isfinite(xp.asarray(self.times[...]))
        fitted = graph.rows >= 0
        within = reached[xp.maximum(graph.rows, 0)]
        if xp is jnp or not fitted.all():
            near = neighbour_sums(graph, reached[:, None].astype(z.dtype))[:, 0] > 0
            within = xp.where(fitted, within, near)
        weights, root, scale = (xp.asarray(v[...]).astype(z.dtype) for v in (self.weights, self.root, self.scale))
        squared = ((weights * (z[:, : self.n_dcs] - root)) ** 2).sum(axis=1)
        apart = squared > 0  # the root has a gradient of 0
        distances = xp.where(apart, xp.sqrt(xp.where(apart, squared, 1)), 0) / scale
        return {"pseudotime": xp.where(within, distances, xp.inf).astype(z.dtype)}

    def together(self, z: Array, graph: Graph) -> dict[str, Array]:
        """Pseudotime of all fitted cells, with eigenvalues and the place of the root as they are in these inputs."""
        place, reached = z[:, : self.n_dcs], jnp.isfinite(jnp.asarray(self.times[...]))
        weights = walk_weights(_rayleigh_quotients(graph, place))
        squared = ((weights * (place - place[self.iroot])) ** 2).sum(axis=1)
        apart = reached & (squared > 0)
        distances = jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1)), 0)
        furthest = distances.max()
        scaled = distances / jnp.where(furthest > 0, furthest, 1)
        return {"pseudotime": jnp.where(reached, scaled, jnp.inf).astype(z.dtype)}


def _rayleigh_quotients(graph: Graph, vectors: Array) -> Array:
    """As :func:`rayleigh_quotients`, of a graph of all cells in their order."""
    one = jnp.ones((len(graph), 1), vectors.dtype)
    sums = symmetric_sums(graph, one)
    connected = sums > 0
    sums = jnp.where(connected, sums, 1)  # a cell without edges walks to itself
    squared = jnp.where(connected, symmetric_sums(graph, one / sums) / sums, 1)
    inverse = 1 / (sums * jnp.sqrt(squared))
    walked = inverse * symmetric_sums(graph, inverse * vectors) + jnp.where(connected, 0, vectors)
    return (vectors * walked).sum(axis=0) / jnp.maximum((vectors**2).sum(axis=0), 1e-30)


def check_root(iroot: int, n_dcs: int, n_cells: int, n_columns: int) -> None:
    """Raise ValueError for a root that does not exist, or more components than there are."""
    if n_columns < n_dcs:
        msg = f"n_dcs={n_dcs} components were asked for, but there are {n_columns}: dbx.tl.diffmap(adata, "
        msg += f"n_comps={n_dcs})."
        raise ValueError(msg)
    if not 0 <= iroot < n_cells:
        msg = f"The root cell iroot={iroot} does not exist: there are {n_cells} cells, numbered from 0."
        raise ValueError(msg)


def rayleigh_quotients(graph: sparse.csr_matrix, vectors: np.ndarray) -> np.ndarray:
    """Eigenvalue of each eigenvector of the graph's symmetric transitions, an array of shape (n_vectors,)."""
    symmetric = density_normalised(graph).symmetric
    return (vectors * (symmetric @ vectors)).sum(axis=0) / np.maximum((vectors**2).sum(axis=0), 1e-300)


def walk_weights(values: Array) -> Array:
    """Weights of diffusion components: lambda / (1 - lambda), and 1 for those of stationary states."""
    xp, stationary = array_library(values), values >= STATIONARY
    return xp.where(stationary, 1, values / xp.where(stationary, 1, 1 - values))
