"""k-means with soft membership: by squared distance to the centroids in units of the spread within clusters."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import as_float
from dbx.ops.checks import check_above_zero, check_whole
from dbx.ops.clusters.kmeans import best_kmeans
from dbx.ops.clusters.spherical_mixture import SphericalMixture
from dbx.ops.operator import Constant, Input, Output, Progress, silent

SMALLEST = 1e-12
"""Variance of clusters that are points."""


class SoftKMeans(SphericalMixture):
    """Membership softmax(-abs(z - c)^2 / (2 temperature s^2)) in the clusters of k-means with centroids c.

    s^2 is the pooled variance within clusters for each dimension. The centroids are those of ``sklearn.cluster.KMeans``
    with the same seed, and so are the labels. Trainable are, as for soft clusters, the centroids and, from equal values
    on, each cluster's logarithms of variance and proportion.

    New cells: the centroids and the variance of the clusters.
    """

    name = "soft_kmeans"
    inputs: ClassVar = {"z": Input()}
    outputs: ClassVar = {**SphericalMixture.outputs, "inertia": Output(axis="none", dtype=None, view=True)}

    def __init__(self, *, n_clusters: int, temperature: float = 1.0, n_init: int = 10, max_iter: int = 300):
        check_whole(n_clusters, 1, "n_clusters")
        check_whole(n_init, 1, "n_init")
        check_whole(max_iter, 1, "max_iter")
        check_above_zero(temperature, "temperature")
        self.n_clusters = n_clusters
        self.temperature = temperature
        self.n_init = n_init
        self.max_iter = max_iter
        self.levels = tuple(map(str, range(n_clusters)))

    def fit(self, *, z: RowBlocks, seed: int = 0, progress: Progress = silent) -> None:
        """Find the centroids by Lloyd's iterations from several starts; clusters are numbered by falling size."""
        points = z.dense().astype(np.float64)
        n, k = len(points), self.n_clusters
        if k > n:
            msg = f"n_clusters must be at most the number of cells, {n}; got {k}."
            raise ValueError(msg)
        middle = points.mean(axis=0)
        found = best_kmeans(points - middle, k, n_init=self.n_init, max_iter=self.max_iter, seed=seed)
        sizes = np.bincount(found.labels, minlength=k)
        if not sizes.all():
            msg = (
                f"n_clusters must be at most the number of different cells, {len(np.unique(points, axis=0))}; got {k}."
            )
            raise ValueError(msg)
        spread = found.inertia / (points.shape[1] * max(n - k, 1))
        self.centres = nnx.Param(as_float(found.centroids[np.argsort(-sizes, kind="stable")] + middle))
        self.log_variance = nnx.Param(as_float(np.full(k, np.log(max(spread, SMALLEST)))))
        self.log_share = nnx.Param(as_float(np.zeros(k)))
        self.within = Constant(np.float64(found.inertia))

    def __call__(self, z) -> dict[str, Any]:
        """The nearest centroid, and the membership in each cluster."""
        return self._memberships(z)

    @property
    def inertia(self) -> float:
        """Sum of squared distances of the fitted cells to their centroid."""
        return float(self.within[...])
