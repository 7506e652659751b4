"""The mixtures of each class of genes: parameters, and densities of cells that are differentiable in them."""

from __future__ import annotations

from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.distribution.hypotheses import CLASSES, Hypotheses
from dbx.ops.operator import Constant
from dbx.ops.values import Array

ABSENT = -1e9
"""Logit of a component that a mixture does not have."""


class FittedMixtures(nnx.Module):
    """Arrays of shape (n_genes, n_classes, 2 conditions, n_components): the best mixture of each class."""

    def keep(self, found: Hypotheses, centre: np.ndarray, scale: np.ndarray) -> None:
        """Store mixtures of standardised values in the units of the values."""
        n = max(int((found.share > 0).sum(axis=-1).max(initial=0)), 1)
        order = np.argsort(found.share <= 0, axis=-1, kind="stable")[..., :n]
        share, mean, sd = (np.take_along_axis(part, order, axis=-1) for part in (found.share, found.mean, found.sd))
        unit = scale[:, None, None, None]
        active = share > 0
        self.active = Constant(jnp.asarray(active))
        self.mean = nnx.Param(_float(np.where(active, centre[:, None, None, None] + unit * mean, 0)))
        self.log_sd = nnx.Param(_float(np.where(active, np.log(unit * sd), 0)))
        self.logit = nnx.Param(_float(np.where(active, np.log(np.where(active, share, 1)), 0)))
        self.penalty = Constant(_float(found.penalty))

    @property
    def n_components(self) -> np.ndarray:
        """Of each mixture, an array of shape (n_genes, n_classes, 2); 0 for a mixture that was not fitted."""
        return np.asarray(self.active[...]).sum(axis=-1)

    def log_density(self, x: Array, at: Array, kind: Array, group: Array | int) -> Array:
        """Log density of the values of genes ``at`` under their mixtures of a class, in one condition; like ``x``."""
        parts = (self.mean[...], self.log_sd[...], self.logit[...], self.active[...])
        return log_mixture(x, *(part[at, kind, group] for part in parts))

    def class_probabilities(self, x: Array, codes: Array) -> Array:
        """Probabilities of the classes by the non-zero values, an array of shape (n_genes, n_classes)."""
        there = x > 0
        values = jnp.where(there, x, 1.0)
        genes = jnp.arange(x.shape[1])

        def likelihood(case):
            kind, group = case
            density = self.log_density(values, genes, jnp.full_like(genes, kind), group)
            return jnp.where(there & (codes == group)[:, None], density, 0.0).sum(axis=0)

        cases = jnp.indices((len(CLASSES), 2)).reshape(2, -1)
        total = jax.lax.map(likelihood, tuple(cases)).reshape(len(CLASSES), 2, -1).sum(axis=1).T
        fitted = self.active[...].any(axis=(2, 3))
        return jax.nn.softmax(jnp.where(fitted, total - self.penalty[...], ABSENT), axis=-1)


def log_mixture(x: Array, mean: Array, log_sd: Array, logit: Array, active: Array) -> Array:
    """Log density of values under a mixture for each gene, an array like ``x``; 0 for a gene without components.

    Parameters
    ----------
    x
        Values, an array of shape (n_cells, n_genes).
    mean, log_sd, logit
        Components, arrays of shape (n_genes, n_components); shares are the softmax of the logits.
    active
        Which components there are.
    """
    share = jax.nn.log_softmax(jnp.where(active, logit, ABSENT), axis=-1)
    parts = []
    for k in range(mean.shape[-1]):
        z = (x - mean[:, k]) * jnp.exp(-log_sd[:, k])
        one = share[:, k] - log_sd[:, k] - 0.5 * (z * z + jnp.log(2 * jnp.pi))
        parts.append(jnp.where(active[:, k], one, ABSENT))
    largest = jax.lax.stop_gradient(reduce(jnp.maximum, parts))
    total = largest + jnp.log(sum(jnp.exp(part - largest) for part in parts))
    return jnp.where(active.any(axis=-1), total, 0.0)


def _float(values: np.ndarray) -> jax.Array:
    return jnp.asarray(values, jnp.float32)
