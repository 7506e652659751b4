"""Correlations of velocities with displacements to neighbours, and to their neighbours."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import dense
from dbx.ops.checks import check_minimums
from dbx.ops.dynamics.adjacency import adjacency
from dbx.ops.dynamics.correlations import correlations, host_correlations, signed_root
from dbx.ops.dynamics.reach import host_reached, reached
from dbx.ops.operator import Input, Operator, Output, Progress, Reference, silent
from dbx.ops.ragged import RaggedGraph
from dbx.ops.values import Array, Edges, Graph


class VelocityGraph(Operator):
    """Pearson correlation over genes of x_j - x_i with v_i, for the cells j within ``n_steps`` edges of cell i.

    Positive and negative ones are two graphs. With ``sqrt_transform`` of the square roots of both, with their signs.
    ``at_most`` is the largest number of cells j for each i, drawn with a fixed seed.

    Bergen et al., Nature Biotechnology, 2020. The reference implementation is ``scvelo.tl.velocity_graph``.

    New cells: correlations with displacements to reference cells.
    """

    name = "velocity_graph"
    inputs: ClassVar = {
        "x": Input(genes=True),
        "v": Input(genes=True, missing=True),
        "graph": Input(kind="graph", ragged=True),
    }
    outputs: ClassVar = {"positive": Output(), "negative": Output()}
    rowwise = True
    host = True
    in_pieces = True
    references: ClassVar = {"cells": "x", "edges": "graph"}

    def __init__(self, *, n_steps: int = 2, sqrt_transform: bool = False, at_most: int | None = None):
        self.n_steps = n_steps
        self.sqrt_transform = sqrt_transform
        self.at_most = at_most
        check_minimums(self, n_steps=1, at_most=1)

    def fit(
        self, *, x: RowBlocks, v: RowBlocks, graph: sparse.csr_matrix, seed: int = 0, progress: Progress = silent
    ) -> None:
        """Keep the cells and the edges between them."""
        self.cells = Reference(x.dense())
        self.edges = Reference(RaggedGraph.from_csr(graph))

    def __call__(self, x, v, graph: Graph | Edges) -> dict[str, Any]:
        """Correlations above and below 0, as two graphs."""
        v = signed_root(dense(v)) if self.sqrt_transform else dense(v)
        return self._on_host(dense(x), v, graph) if isinstance(graph, Edges) else self._on_device(x, v, graph)

    def check_differentiable(self) -> None:
        """Raise a ValueError for square roots."""
        if self.sqrt_transform:
            msg = "Square roots have no gradient where a gene does not change: use sqrt_transform=False."
            raise ValueError(msg)

    def _on_device(self, x: Array, v: Array, graph: Graph) -> dict[str, Graph]:
        ends, there = reached(graph, self.edges.get_value().padded(), self.n_steps, self.at_most)
        cells = jnp.asarray(self.cells[...]).astype(x.dtype)
        found = jnp.where(there, correlations(x, v, cells, ends, roots=self.sqrt_transform), 0)
        parts = {"positive": jnp.maximum(found, 0), "negative": jnp.minimum(found, 0)}
        return {name: Graph(ends, part, graph.rows, graph.n_reference) for name, part in parts.items()}

    def _on_host(self, x: np.ndarray, v: np.ndarray, graph: Edges) -> dict[str, Edges]:
        stored = self.edges.get_value().to_csr()
        among = adjacency(Edges(stored, np.arange(stored.shape[0], dtype=np.int32)))
        links = host_reached(graph, among, self.n_steps, self.at_most)
        found = host_correlations(x, v, np.asarray(self.cells[...]), links, roots=self.sqrt_transform)
        return {
            "positive": Edges(part_of(links, found, found > 0), graph.rows),
            "negative": Edges(part_of(links, found, found < 0), graph.rows),
        }


def part_of(links: sparse.csr_matrix, values: np.ndarray, kept: np.ndarray) -> sparse.csr_matrix:
    """A CSR matrix with ``values`` at some of the entries of another."""
    indptr = np.append(0, np.cumsum(kept))[links.indptr]
    return sparse.csr_matrix((values[kept], links.indices[kept], indptr), shape=links.shape)
