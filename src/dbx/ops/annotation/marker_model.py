"""Counts of marker genes as a mixture over cell types (CellAssign: Zhang et al., Nature Methods, 2019)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.losses.counts import negative_binomial_kernel
from dbx.ops.arrays import as_float
from dbx.ops.operator import Constant

N_CENTRES = 10


class MarkerModel(nnx.Module):
    """Negative binomial counts; a marker is over-expressed in its cell types, at least ``min_fold`` times.

    ``log mean = log size + base + effect of the batch + marks * (log min_fold + exp(excess))``. The inverse dispersion
    is a sum of ten radial basis functions of the logarithm of the mean. Excesses have a common normal prior, which is
    learned, and the frequencies of the types have a Dirichlet prior.
    """

    def __init__(self, *, min_fold: float, concentration: float):
        self.min_fold, self.concentration = min_fold, concentration

    def reset(self, marks: np.ndarray, base: np.ndarray, fold: np.ndarray, highest: float, n_batches: int) -> None:
        """Initialise with log-rates (n_genes,) and log-folds (n_genes, n_types); ``highest`` is the largest mean."""
        n_genes, n_types = marks.shape
        self.marks = Constant(as_float(marks))
        self.centres = Constant(as_float(np.linspace(0, np.log1p(highest), N_CENTRES)))
        excess = np.log(np.maximum(fold - np.log(self.min_fold), 0.1))
        self.base, self.excess = nnx.Param(as_float(base)), nnx.Param(as_float(np.where(marks > 0, excess, 0)))
        self.excess_mean, self.excess_log_sd = nnx.Param(as_float(0.0)), nnx.Param(as_float(0.0))
        self.log_bumps = nnx.Param(as_float(np.zeros(N_CENTRES)))
        self.logits = nnx.Param(as_float(np.zeros(n_types)))
        if n_batches > 1:
            self.batch = nnx.Param(as_float(np.zeros((n_batches, n_genes))))

    def log_joint(self, x, log_size, batch):
        """Log-density of counts and each type, without ``log x!``: (n_cells, n_types); ``batch`` has indicators."""
        level = log_size[:, None] + self.base[...]
        if hasattr(self, "batch"):
            effect = self.batch[...]
            level = level + batch @ (effect - effect.mean(axis=0))
        raised = self.marks[...] * (jnp.log(self.min_fold) + jnp.exp(self.excess[...]))
        log_mean = level[:, :, None] + raised
        entries = negative_binomial_kernel(x[:, :, None], log_mean, self._theta(log_mean))
        return entries.sum(axis=1) + jax.nn.log_softmax(self.logits[...])

    def _theta(self, log_mean):
        centres = self.centres[...]
        width = centres[1] - centres[0]
        at = (jax.nn.softplus(log_mean)[..., None] - centres) / width
        return (jnp.exp(self.log_bumps[...]) * jnp.exp(-0.5 * at**2)).sum(axis=-1) + 1e-2

    def penalty(self):
        """Negative log-density of the priors."""
        sd = jnp.exp(self.excess_log_sd[...])
        of_excess = 0.5 * ((self.excess[...] - self.excess_mean[...]) / sd) ** 2 + self.excess_log_sd[...]
        of_batch = 0.5 * (self.batch[...] ** 2).sum() if hasattr(self, "batch") else 0.0
        frequency = jax.nn.log_softmax(self.logits[...])
        hyper = 0.5 * (self.excess_mean[...] ** 2 + self.excess_log_sd[...] ** 2)
        return (self.marks[...] * of_excess).sum() + of_batch + hyper - self.concentration * frequency.sum()


def negative_log_marginal(model: MarkerModel, batch: dict[str, jax.Array], key):
    """The objective of each cell; the term of the priors is divided among the cells."""
    del key
    x = batch["x"]
    joint = model.log_joint(x, batch["log_size"], batch["batch"])
    return -jax.nn.logsumexp(joint, axis=1) + model.penalty() * batch["part"], {}
