"""Spatial domains by a graph autoencoder with attention (STAGATE)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import like
from dbx.ops.checks import check_whole
from dbx.ops.components.principal_axes import principal_axes
from dbx.ops.operator import Constant, Output, Progress
from dbx.ops.space.domain_mixture import Cluster
from dbx.ops.space.domains import SpatialDomains
from dbx.ops.space.graph_autoencoder import GraphAutoencoder
from dbx.ops.space.graph_training import train_autoencoder
from dbx.ops.space.neighbors import CoordType, edge_mask
from dbx.ops.space.patches import patches
from dbx.ops.space.slice_scale import slice_means
from dbx.ops.values import Frame, Graph

FULL_GRAPH_CELLS = 10_000
"""Cells up to which each step is on all of them."""
PATCH_CELLS = 2048
"""Cells of a step for more; their neighbours and the neighbours of those come on top."""


class AttentionDomains(SpatialDomains):
    """The mixture of :class:`SpatialDomains` on codes of an autoencoder that attends to neighbours.

    Expression is centred within each slice, and the slice is an input of the decoder. The network starts as the
    neighbour mean of principal components and is trained to predict entries that are hidden from it, until others that
    are held out are predicted no better (``dbx.ops.space.graph_training``); its codes are the first of ``n_rounds``
    rounds. Trainable are the network besides.

    Dong and Zhang, Nature Communications 2022. The reference implementation is STAGATE_pyG.

    New cells: the stored network on the neighbours among the new cells, then as by ``spatial_domains``; a new slice is
    decoded as the mean of the others.
    """

    name = "spatial_domains_gat"
    inputs: ClassVar = {name: SpatialDomains.inputs[name] for name in ("genes", "points", "slices")}
    outputs: ClassVar = {**SpatialDomains.outputs, "history": Output(axis="none", dtype=None, view=True)}

    def __init__(
        self,
        *,
        n_domains: int | None = None,
        coord_type: CoordType = "knn",
        n_neighs: int = 6,
        radius: float | None = None,
        n_rounds: int = 2,
        refine: bool = True,
        cluster: Cluster = "gmm",
        n_init: int = 10,
        hidden: tuple[int, int] = (512, 30),
        heads: int = 1,
        max_epochs: int = 1000,
        batch_size: int | None = None,
        denoised: bool = False,
        levels: tuple[str, ...] = (),
        width: int | None = None,
    ):
        super().__init__(
            n_domains=n_domains,
            coord_type=coord_type,
            n_neighs=n_neighs,
            radius=radius,
            n_rounds=n_rounds,
            refine=refine,
            cluster=cluster,
            n_init=n_init,
            levels=levels,
            width=width,
        )
        if not isinstance(hidden, list | tuple) or len(hidden) != 2:
            msg = f"hidden must be two numbers of units, of the hidden layer and of the code; got {hidden!r}."
            raise ValueError(msg)
        for number in hidden:
            check_whole(number, 1, "hidden")
        check_whole(heads, 1, "heads")
        if hidden[0] % heads:
            msg = f"heads must divide the number of hidden units, {hidden[0]}; got {heads}."
            raise ValueError(msg)
        check_whole(max_epochs, 1, "max_epochs")
        if batch_size is not None:
            check_whole(batch_size, 1, "batch_size")
        self.hidden = tuple(map(int, hidden))
        self.heads = heads
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.denoised = denoised
        self.network = GraphAutoencoder(heads=heads)

    @classmethod
    def declared(cls, config: Mapping[str, Any]) -> type[AttentionDomains]:
        """Decoded expression is an output only if it is asked for."""
        return _denoising() if config.get("denoised") else cls

    @property
    def n_further(self) -> int:
        """The codes are the first round."""
        return self.n_rounds - 1

    def _values(self, z: RowBlocks | None, genes: RowBlocks | None, seed: int) -> np.ndarray:
        if genes is None:
            msg = "The graph autoencoder needs genes."
            raise ValueError(msg)
        n_code = min(self.hidden[1], genes.n_rows - 1, genes.n_columns)
        axes = principal_axes(genes, n_code, seed=seed).directions
        self.network.reset(np.random.default_rng(seed), np.asarray(axes), self.hidden[0])
        return genes.dense().astype(np.float32)

    def _projected(self, z, genes):
        return genes

    def _scale(self, values: np.ndarray, codes: np.ndarray, n_slices: int) -> np.ndarray:
        """Only the means: genes keep their variances."""
        means = slice_means(values, codes, n_slices)
        return np.stack([means, np.ones_like(means)])

    def _learnt(self, values: np.ndarray, graph: Graph, points, codes, seed: int, progress: Progress) -> np.ndarray:
        size = self.batch_size or (FULL_GRAPH_CELLS if len(values) <= FULL_GRAPH_CELLS else PATCH_CELLS)
        parts = patches(graph, points, codes, size)
        self.network.place_slices(self.scale[...].shape[1])
        found = train_autoencoder(
            self.network, values, codes, parts, max_epochs=self.max_epochs, seed=seed, progress=progress
        )
        self.errors = Constant(np.array(found))
        return np.asarray(_alone(*nnx.split(self.network), values), np.float64)

    def extend(self, **inputs: Any) -> None:
        """Also a place in the decoder."""
        super().extend(**inputs)
        self.network.place_slices(self.scale[...].shape[1])

    def _codes_of(self, values: np.ndarray, graph: Graph) -> np.ndarray:
        return np.asarray(_encoded(*nnx.split(self.network), values, graph.indices, edge_mask(graph)), np.float64)

    def _coded(self, values, graph: Graph, codes) -> tuple[Any, dict[str, Any]]:
        """Decoded expression has the means of the slice again."""
        code, attention = self.network.encode_all(values, graph.indices, edge_mask(graph))
        if not self.denoised:
            return code, {}
        decoded = self.network.decode_all(code, attention, graph.indices, codes)
        return code, {"expression": decoded + like(self.scale[...], values)[0][codes]}

    @property
    def history(self) -> Frame:
        """Mean squared error of hidden and of held-out entries by epoch."""
        epoch, trained, held_out = np.asarray(self.errors[...])
        return Frame({"epoch": epoch.astype(np.int64), "loss": trained, "held_out": held_out}, rows=None)


@cache
def _denoising() -> type[AttentionDomains]:
    """The class with decoded expression."""
    outputs = {**AttentionDomains.outputs, "expression": Output(content="log")}
    body = {"outputs": outputs, "__module__": __name__, "__qualname__": AttentionDomains.__qualname__}
    return type(AttentionDomains.__name__, (AttentionDomains,), body)


@partial(jax.jit, static_argnums=0)
def _encoded(graphdef, state, x, indices, mask) -> Any:
    return nnx.merge(graphdef, state).encode_all(x, indices, mask)[0]


@partial(jax.jit, static_argnums=0)
def _alone(graphdef, state, x) -> Any:
    return nnx.merge(graphdef, state).alone(x)
