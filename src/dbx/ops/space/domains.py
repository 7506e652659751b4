"""Spatial domains by smoothing: cells whose neighbourhoods have similar expression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import as_float, like
from dbx.ops.checks import check_known, check_whole
from dbx.ops.clusters.tied_mixture import memberships
from dbx.ops.components.principal_axes import principal_axes
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.space.called_graph import called_graph
from dbx.ops.space.domain_mixture import CLUSTERS, Cluster, choose_mixture
from dbx.ops.space.neighbors import (
    CoordType,
    check_graph_settings,
    edge_mask,
    spatial_graph,
    warn_of_far_cells,
    warn_of_lone_cells,
    warn_of_shared_places,
)
from dbx.ops.space.slice_scale import device_codes, scaled_by_slice, slice_codes, slice_scale
from dbx.ops.space.smoothing import cells_averaged, neighbour_mean, smoothed
from dbx.ops.space.spatial_axes import permuted_within, spatial_axes
from dbx.ops.values import Codes, Frame, Graph

MAX_PCS = 50
"""Principal components of genes, where no embedding is given."""
REFINED_BY = 20
"""Nearest cells over which probabilities are averaged."""


class SpatialDomains(Operator):
    """A mixture of normals with one covariance on neighbour means of an embedding.

    The embedding is centred and scaled within each slice, averaged over the neighbours of each cell in ``n_rounds``
    rounds, and projected on the axes along which neighbours agree more than by chance
    (``dbx.ops.space.spatial_axes``). With ``refine`` the probabilities are averaged over the nearest cells.
    Trainable are the axes, and means, covariance and proportions of the mixture.

    Each call needs whole slices, since cells are averaged with others of the call.

    New cells: the stored axes and mixture on the neighbours among the new cells; a new slice is centred and scaled by
    itself where slices are named.
    """

    name = "spatial_domains"
    inputs: ClassVar = {
        "z": Input(optional=True),
        "genes": Input(genes=True, content=("log", "scaled"), optional=True),
        "points": Input(),
        "slices": Input(kind="codes", unseen="extend", optional=True),
    }
    outputs: ClassVar = {
        "labels": Output(dtype="category"),
        "probabilities": Output(),
        "embedding": Output(content="embedding"),
        "connectivities": Output(),
        "distances": Output(),
        "criterion": Output(axis="none", dtype=None, view=True),
    }
    result = "labels"
    in_space = True
    unlisted = frozenset({"levels", "width"})

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
        levels: tuple[str, ...] = (),
        width: int | None = None,
    ):
        if n_domains is not None:
            check_whole(n_domains, 1, "n_domains")
        check_graph_settings(coord_type, n_neighs, radius)
        check_whole(n_rounds, 1, "n_rounds")
        check_known(cluster, CLUSTERS, "cluster")
        check_whole(n_init, 1, "n_init")
        self.n_domains = n_domains
        self.coord_type = coord_type
        self.n_neighs = n_neighs
        self.radius = radius
        self.n_rounds = n_rounds
        self.refine = refine
        self.cluster = cluster
        self.n_init = n_init
        self.levels = levels
        self.width = width

    def fit(
        self,
        *,
        points: RowBlocks,
        z: RowBlocks | None = None,
        genes: RowBlocks | None = None,
        slices: Codes | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Find the axes and the mixture."""
        places, codes = points.dense(), slice_codes(slices, points.n_rows)
        self._check_cells(len(places))
        graph = self._graph(places, codes)
        warn_of_shared_places(places, codes)
        warn_of_lone_cells(graph)
        if self.radius is None and self.coord_type != "grid":
            warn_of_far_cells(graph)
        self.width = 2 * graph.indices.shape[1]  # new slices may have cells with more neighbours
        values = self._values(z, genes, seed)
        n_slices = 1 if slices is None else slices.n_levels
        self.scale = Constant(self._scale(values, codes, n_slices).astype(np.float32))
        values = np.asarray(scaled_by_slice(values, codes, np.asarray(self.scale[...], values.dtype)))
        alone = self._learnt(values, graph, places, codes, seed, progress)
        means, by_chance = (
            smoothed(self._codes_of(some, graph), graph, self.n_further)
            for some in (values, values[permuted_within(codes, seed)])
        )
        axes = spatial_axes(alone, means, by_chance)
        self.axes = nnx.Param(as_float(axes.directions))
        embedding = means @ axes.directions
        chosen = choose_mixture(
            embedding,
            self.n_domains,
            cluster=self.cluster,
            n_init=self.n_init,
            n_independent=len(places) / cells_averaged(graph, self.n_rounds, seed=seed),
            seed=seed,
            progress=progress,
        )
        self.compared = Constant(chosen.criterion)
        self._keep_mixture(chosen.mixture, embedding, places, codes)

    @property
    def n_further(self) -> int:
        """Rounds of plain averaging over neighbours."""
        return self.n_rounds

    def _scale(self, values: np.ndarray, codes: np.ndarray, n_slices: int) -> np.ndarray:
        return slice_scale(values, codes, n_slices)

    def _learnt(self, values: np.ndarray, graph: Graph, points, codes, seed: int, progress: Progress) -> np.ndarray:
        """Coordinates of cells without their neighbours, after what has to be learnt for them."""
        return values

    def _codes_of(self, values: np.ndarray, graph: Graph) -> np.ndarray:
        """Coordinates of cells among their neighbours on the host, float64."""
        return values

    def _coded(self, values, graph: Graph, codes) -> tuple[Any, dict[str, Any]]:
        """The same on a device, and outputs besides."""
        return values, {}

    def _check_cells(self, n_cells: int) -> None:
        if n_cells < 3:
            msg = f"Spatial domains need at least 3 cells; got {n_cells}."
            raise ValueError(msg)
        if self.n_domains is not None and self.n_domains > n_cells:
            msg = f"n_domains must be at most the number of cells, {n_cells}; got {self.n_domains}."
            raise ValueError(msg)

    def _graph(self, points: np.ndarray, codes: np.ndarray) -> Graph:
        return spatial_graph(
            points,
            coord_type=self.coord_type,
            n_neighs=self.n_neighs,
            radius=self.radius,
            slices=codes,
            symmetric=True,
        )

    def _values(self, z: RowBlocks | None, genes: RowBlocks | None, seed: int) -> np.ndarray:
        """The embedding, or principal components of genes, in float64."""
        if z is not None:
            return z.dense().astype(np.float64)
        if genes is None:
            msg = "Spatial domains need an embedding or genes."
            raise ValueError(msg)
        n_pcs = min(MAX_PCS, genes.n_rows - 1, genes.n_columns)
        found = principal_axes(genes, n_pcs, seed=seed)
        self.pcs = nnx.Param(as_float(found.directions))
        self.gene_means = Constant(found.mean.astype(np.float32))
        directions, mean = np.asarray(self.pcs[...], np.float64), np.asarray(self.gene_means[...], np.float64)
        return np.concatenate([rows @ directions for _, _, rows in genes.parts()]) - mean @ directions

    def _keep_mixture(self, mixture, embedding, points, codes) -> None:
        """The components in the order of their cells' mean position along the first axis of space."""
        labels = memberships(embedding, mixture)[0].argmax(axis=1)
        along = scaled_by_slice(points[:, :1], codes, slice_scale(points[:, :1], codes, int(codes.max()) + 1))[:, 0]
        sizes = np.bincount(labels, minlength=len(mixture.means))
        position = np.bincount(labels, along, minlength=len(sizes)) / np.maximum(sizes, 1)
        order = np.lexsort((position, sizes == 0))
        self.levels = tuple(map(str, range(len(order))))
        self.centres = nnx.Param(as_float(mixture.means[order]))
        self.whitening = nnx.Param(as_float(np.linalg.inv(np.linalg.cholesky(mixture.covariance)).T))
        self.log_share = nnx.Param(as_float(np.log(np.maximum(mixture.shares[order], 1e-12))))

    def extend(
        self,
        *,
        points: RowBlocks,
        slices: Codes,
        z: RowBlocks | None = None,
        genes: RowBlocks | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Mean and deviation of slices that were not in the fit."""
        known = self.scale[...].shape[1]
        if slices.n_levels > known:
            values = np.asarray(self._projected(_dense(z), _dense(genes)), np.float64)
            found = self._scale(values, np.asarray(slices.codes), slices.n_levels)[:, known:]
            self.scale = Constant(np.concatenate([self.scale[...], found.astype(np.float32)], axis=1))

    def prepared(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the neighbours of all cells and the nearest cells for refinement."""
        points = inputs["points"].dense()
        codes = slice_codes(inputs.get("slices"), len(points))
        near = {"near": self._near(points, codes)} if self.refine else {}
        return {**inputs, "graph": self._graph(points, codes), **near}

    def _near(self, points: np.ndarray, codes: np.ndarray) -> Graph:
        return spatial_graph(points, n_neighs=REFINED_BY, slices=codes)

    def __call__(self, points, z=None, genes=None, slices=None, graph=None, near=None) -> dict[str, Any]:
        """Domain, probabilities and coordinates of each cell, and its neighbours in space."""
        codes = device_codes(slices, len(points))
        if graph is None:
            graph = called_graph(self._graph, points, codes, cast(int, self.width))
            near = called_graph(self._near, points, codes, min(REFINED_BY, len(points) - 1))
        values = self._projected(z, genes)
        values = scaled_by_slice(values, codes, like(self.scale[...], values))
        values, further = self._coded(values, graph, codes)
        for _ in range(self.n_further):
            values = neighbour_mean(values, graph)
        embedding = values @ like(self.axes[...], values)
        probabilities = jax.nn.softmax(self._log_joint(embedding), axis=1)
        if self.refine:
            probabilities = neighbour_mean(probabilities, near)
        return {
            "labels": Codes(probabilities.argmax(axis=1).astype(jnp.int32), self.levels),
            "probabilities": probabilities,
            "embedding": embedding,
            **_edges(points, graph),
            **further,
        }

    def _projected(self, z, genes):
        if z is not None:
            return z
        return (genes - like(self.gene_means[...], genes)) @ like(self.pcs[...], genes)

    def _log_joint(self, embedding):
        """Log-density of coordinates and domain up to a constant, an array of shape (n_cells, n_domains)."""
        centres, whitening, share = (like(p[...], embedding) for p in (self.centres, self.whitening, self.log_share))
        apart = (embedding @ whitening)[:, None] - (centres @ whitening)[None]
        return share - (apart**2).sum(axis=2) / 2

    @property
    def criterion(self) -> Frame:
        """Bayesian information criterion by number of domains; one row where the number was given."""
        number, value = np.asarray(self.compared[...])
        chosen = number == len(self.levels)
        return Frame({"n_domains": number.astype(np.int64), "bic": value, "chosen": chosen}, rows=None)


def _dense(x: RowBlocks | None) -> np.ndarray | None:
    return None if x is None else x.dense()


def _edges(points, graph: Graph) -> dict[str, Graph]:
    """Weights 1 and distances of neighbours, squidpy's two graphs; distances are differentiable in the points."""
    mask = edge_mask(graph)
    apart = points[:, None] - points[graph.indices]
    square = jnp.where(mask, (apart**2).sum(axis=2), 0)
    distances = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    rows = jnp.arange(len(points), dtype=jnp.int32)
    return {
        "connectivities": Graph(graph.indices, mask.astype(points.dtype), rows, len(points)),
        "distances": Graph(graph.indices, distances, rows, len(points), distances=True),
    }
