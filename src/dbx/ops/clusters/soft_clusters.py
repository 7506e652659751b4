"""Soft membership of cells in groups, by distance to the centroids."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.data.moments import moments
from dbx.ops.arrays import array_library, as_float, like
from dbx.ops.checks import check_above_zero
from dbx.ops.operator import Input, Operator, Output, Progress, Unit, silent
from dbx.ops.values import Codes


class SoftClusters(Operator):
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
    outputs: ClassVar = {
        "labels": Output(dtype="category"),
        "probabilities": Output(),
        "centroids": Output(axis="none", dtype=None, view=True),
    }
    rowwise = True
    host = True

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
        scores = self._log_joint(z) / self.temperature
        labels = Codes(scores.argmax(axis=1).astype(np.int32), self.levels)
        shares = array_library(z).exp(scores - scores.max(axis=1, keepdims=True))
        return {"labels": labels, "probabilities": shares / shares.sum(axis=1, keepdims=True)}

    def loss(self, inputs, outputs):
        """Negative log-likelihood of each cell's coordinates, in nats."""
        return -jax.nn.logsumexp(self._log_joint(inputs["z"]), axis=1)

    def _log_joint(self, z):
        """Log-density of coordinates and group, an array of shape (n_cells, n_groups)."""
        log_variance, log_share, centres = (
            like(value[...], z) for value in (self.log_variance, self.log_share, self.centres)
        )
        square = (z**2).sum(axis=1, keepdims=True) - 2 * z @ centres.T + (centres**2).sum(axis=1)
        n_dims = z.shape[1]
        xp = array_library(z)
        share = log_share - xp.log(xp.exp(log_share).sum())
        return share - 0.5 * (square * xp.exp(-log_variance) + n_dims * (log_variance + np.log(2 * np.pi)))

    @property
    def units(self) -> dict[str, Unit]:
        """The unit of centroids is the standard deviation of their group."""
        return {"centres": Unit(np.exp(0.5 * np.asarray(self.log_variance[...]))[:, None], 1.0)}

    @property
    def centroids(self) -> np.ndarray:
        """Array of shape (n_groups, n_dims)."""
        return np.asarray(self.centres[...])
