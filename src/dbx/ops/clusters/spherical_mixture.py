"""Memberships in a mixture of spherical normals, whichever way it was fitted."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx

from dbx.ops.arrays import array_library, like
from dbx.ops.operator import Operator, Output, Unit
from dbx.ops.values import Codes


class SphericalMixture(Operator):
    """The posterior of a mixture of spherical normals, whose logarithms are divided by a temperature."""

    outputs: ClassVar = {
        "labels": Output(dtype="category"),
        "probabilities": Output(),
        "centroids": Output(axis="none", dtype=None, view=True),
    }
    rowwise = True
    host = True
    temperature: float
    levels: tuple[str, ...]
    centres: nnx.Param
    log_variance: nnx.Param
    log_share: nnx.Param

    def _memberships(self, z) -> dict[str, Any]:
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
