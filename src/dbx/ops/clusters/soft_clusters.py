"""Soft membership of cells in groups, by distance to the centroids."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.data.moments import moments
from dbx.ops.arrays import as_float
from dbx.ops.checks import check_above_zero
from dbx.ops.clusters.spherical_mixture import SphericalMixture
from dbx.ops.operator import Input, Progress, silent
from dbx.ops.values import Codes


class SoftClusters(SphericalMixture):
    """Probabilities of a mixture of spherical normals, one for each group, fitted by the groups' moments.

    Trainable are the centroids and, for each group, the logarithms of its variance and its proportion. A
    ``temperature`` below 1 sharpens memberships, towards the nearest group in the limit.

    New cells: the centroids, variances and proportions of the groups.
    """

    name = "soft_clusters"
    inputs: ClassVar = {
        "z": Input(),
        "groups": Input(kind="codes", missing=True, unseen="missing", of_fitted_cells=True),
    }

    def __init__(self, *, temperature: float = 1.0, levels: tuple[str, ...] = ()):
        check_above_zero(temperature, "temperature")
        self.temperature, self.levels = temperature, levels

    def fit(self, *, z: RowBlocks, groups: Codes, seed: int = 0, progress: Progress = silent) -> None:
        """Compute mean, variance and proportion of each group; cells without a group are left out."""
        codes = np.asarray(groups.codes)
        counts = np.bincount(codes[codes >= 0], minlength=groups.n_levels)
        present = np.flatnonzero(counts)
        if len(present) < 2:
            msg = f"Soft clusters need at least 2 groups of cells; got {len(present)}."
            raise ValueError(msg)
        self.levels = tuple(groups.levels[i] for i in present)
        number = np.full(groups.n_levels + 1, -1)
        number[present] = np.arange(len(present))
        found = moments(z, number[codes], len(present))
        variance = found.variance.mean(axis=1)
        # a group of one cell, or of identical cells, gets the variance of all
        pooled = max(float(np.average(variance, weights=counts[present])), 1e-12)
        self.centres = nnx.Param(as_float(found.mean))
        self.log_variance = nnx.Param(as_float(np.log(np.where(variance > 0, variance, pooled))))
        self.log_share = nnx.Param(as_float(np.log(counts[present] / counts.sum())))

    def __call__(self, z, groups=None) -> dict[str, Any]:
        """The likeliest group, and the probability of each."""
        del groups
        return self._memberships(z)
