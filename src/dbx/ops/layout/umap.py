"""UMAP of a neighbour graph; new cells are placed in the fitted layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.layout.spectral import spectral_layout
from dbx.ops.layout.umap_layout import CLIP, Curve, layout
from dbx.ops.operator import Input, Operator, Output, Progress, Reference, silent
from dbx.ops.values import Array, Graph, own_rows

SPAN = 10.0
"""Side of the box in which a layout starts, as in umap-learn."""
NOISE = 1e-4
"""Standard deviation of the noise on a spectral start of that size."""
PLACING_STEPS = 30
"""Steps that refine the position of a new cell."""
PLACING_PUSHES = 256
"""Fitted cells that repel a new cell in each step, different ones in the next; all of them in small data."""


class UMAP(Operator):
    """A layout in which likely neighbours are close and other cells distant.

    ``fit`` takes the edges between the fitted cells; ``init`` (positions to start from) and ``x`` (the coordinates the
    neighbours were found in, for placing the components of a disconnected graph) are used only there. Fitted cells keep
    their positions. Any other cell starts at the weighted mean of its neighbours and takes a fixed number of steps,
    attracted by them and repelled by a fixed sample of all fitted cells: ``transform`` of umap-learn, but
    deterministic, cell by cell, and differentiable in the weights.

    McInnes, Healy and Melville, arXiv 1802.03426, 2018. The reference implementation is ``scanpy.tl.umap``.

    New cells: starts between its reference neighbours and is moved by UMAP's objective; they stay where they are.
    """

    name = "umap"
    inputs: ClassVar = {"graph": Input(kind="graph"), "init": Input(optional=True), "x": Input(optional=True)}
    outputs: ClassVar = {"z": Output(content="embedding")}
    rowwise = True
    references: ClassVar = {"embedding": "z"}

    def __init__(
        self,
        *,
        n_components: int = 2,
        min_dist: float = 0.5,
        spread: float = 1.0,
        a: float | None = None,
        b: float | None = None,
        gamma: float = 1.0,
        alpha: float = 1.0,
        negative_sample_rate: float = 5,
        n_epochs: int | None = None,
        start: Literal["spectral", "random", "given"] = "spectral",
    ):
        self.n_components = n_components
        self.min_dist = min_dist
        self.spread = spread
        self.a = a
        self.b = b
        self.gamma = gamma
        self.alpha = alpha
        self.negative_sample_rate = negative_sample_rate
        self.n_epochs = n_epochs
        self.start = start
        self.starter: Callable[[], np.ndarray] | None = None
        """Returns the initial positions if ``start`` is "given" without the input ``init``; set before ``fit``."""

    @property
    def curve(self) -> Curve:
        """Probability of an edge as a function of distance."""
        return Curve.of(self.min_dist, self.spread, self.a, self.b, self.gamma)

    def fit(
        self,
        *,
        graph: sparse.csr_matrix,
        init: RowBlocks | None = None,
        x: RowBlocks | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Lay out the cells of a graph of shape (n_cells, n_cells)."""
        usual = 500 if graph.shape[0] <= 10_000 else 200
        n_epochs = usual if self.n_epochs is None else self.n_epochs
        graph = _strong_edges(graph, n_epochs if n_epochs > 10 else usual)
        z = layout(
            graph,
            self._start(graph, init, x, seed),
            self.curve,
            n_epochs=n_epochs,
            alpha=self.alpha,
            negative_sample_rate=self.negative_sample_rate,
            seed=seed,
            progress=progress,
        )
        self.starter = None
        self.embedding = Reference(jax.device_put(z))

    def _start(self, graph: sparse.csr_matrix, init, x, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        shape = (graph.shape[0], self.n_components)
        if self.start == "random":
            start = rng.uniform(0, SPAN, shape)
        elif self.start == "spectral":
            start = spectral_layout(graph, self.n_components, seed, None if x is None else x.dense())
            start = start * (SPAN / np.abs(start).max()) + rng.normal(0, NOISE, shape)
        else:
            if init is None and self.starter is None:
                msg = "This layout started from positions passed as an array, which are not recorded; pass them again."
                raise ValueError(msg)
            start = np.asarray(init.dense() if self.starter is None else self.starter(), np.float32)
            if start.shape != shape:
                msg = f"The initial positions must have shape {shape}, cells x n_components; got {start.shape}."
                raise ValueError(msg)
            start = start + rng.normal(0, NOISE / SPAN * np.ptp(start), shape)  # separates cells at the same position
        extent = np.ptp(start, axis=0)
        return SPAN * (start - start.min(axis=0)) / np.where(extent > 0, extent, 1)

    def __call__(self, graph: Graph, init: Array | None = None, x: Array | None = None) -> dict[str, Array]:
        """The positions of cells, an array of shape (n_cells, n_components)."""
        embedding = jnp.asarray(self.embedding[...])
        fitted = graph.rows >= 0
        kept = embedding[jnp.maximum(graph.rows, 0)].astype(graph.weights.dtype)
        z = jax.lax.cond(
            fitted.all(), lambda: kept, lambda: jnp.where(fitted[:, None], kept, self._place(graph, embedding))
        )
        return {"z": z}

    def on_host(self, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
        """The stored positions, where all cells are fitted ones."""
        rows = inputs["graph"].rows
        return {"z": np.asarray(self.embedding[...])[rows]} if (rows >= 0).all() else None

    def _place(self, graph: Graph, embedding: Array) -> Array:
        """Positions of new cells, an array of shape (n_cells, n_components)."""
        total = graph.weights.sum(axis=1, keepdims=True)
        share = graph.weights / jnp.where(total > 0, total, 1)
        neighbours = embedding[graph.indices]

        own = own_rows(graph.rows)

        def step(t, z):
            drawn = _sample(len(embedding), t)
            others = (drawn[None] != own[:, None])[..., None], embedding[drawn]
            pulls, pushes = self._forces(z, share, neighbours, others)
            return z + (1 - t / PLACING_STEPS) * (pulls + pushes)

        mean = (share[..., None] * neighbours).sum(axis=1)
        steps = jnp.arange(PLACING_STEPS)
        return jax.lax.scan(lambda z, t: (step(t, z).astype(z.dtype), None), mean, steps)[0]

    def _forces(self, z, share, neighbours, others):
        far, others = others
        between = z[:, None] - neighbours
        pulls = jnp.clip(self.curve.pull((between**2).sum(axis=-1))[..., None] * between, -CLIP, CLIP)
        between = z[:, None] - others
        pushes = jnp.clip(self.curve.push((between**2).sum(axis=-1))[..., None] * between, -CLIP, CLIP)
        return (share[..., None] * pulls).sum(axis=1), self.negative_sample_rate * (far * pushes).mean(axis=1)

    def loss(self, inputs, outputs):
        """Cross-entropy of the edges given the positions of cells, its second term over a fixed sample."""
        graph, z, embedding = inputs["graph"], outputs["z"], jnp.asarray(self.embedding[...])
        squared = ((z[:, None] - embedding[graph.indices]) ** 2).sum(axis=-1)
        to_sample = ((z[:, None] - embedding[_sample(len(embedding), 0)]) ** 2).sum(axis=-1)
        a, b, gamma = self.curve
        near = (graph.weights * jnp.log1p(a * _power(squared, b))).sum(axis=1)
        far = jnp.log1p(1 / (0.001 + a * _power(to_sample, b))).mean(axis=1)
        return near + gamma * self.negative_sample_rate * graph.weights.sum(axis=1) * far


def _power(squared, b):
    distinct = squared > 0
    return jnp.where(distinct, jnp.where(distinct, squared, 1) ** b, 0)


def _sample(n: int, turn) -> Array:
    """Rows at even distances over all ``n`` fitted cells, different ones at each turn."""
    stride = max(n // PLACING_PUSHES, 1)
    return (jnp.arange(n // stride) * stride + turn * max(stride // PLACING_STEPS, 1)) % n


def _strong_edges(graph: sparse.csr_matrix, n_epochs: int) -> sparse.csr_matrix:
    """The edges that would be sampled at least once."""
    graph = sparse.csr_matrix(graph, copy=True)
    if graph.nnz == 0:
        msg = "The neighbour graph has no edges."
        raise ValueError(msg)
    graph.data[graph.data < graph.data.max() / n_epochs] = 0
    graph.eliminate_zeros()
    return graph
