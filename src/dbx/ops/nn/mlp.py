"""The networks of trained operators: linear layers, batch normalisation, dropout.

Modules start without arrays: ``reset`` draws them from a NumPy generator (no compilation, the same on every device),
and :func:`dbx.ops.state.rebuild` sets them from stored ones. Randomness is an argument: without a key a network is
deterministic and uses its stored statistics.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.arrays import as_float


class Linear(nnx.Module):
    """``x @ kernel + bias``; without bias before a normalisation, which would cancel it."""

    def __init__(self, *, use_bias: bool = True):
        self.use_bias = use_bias

    def reset(self, rng: np.random.Generator, n_in: int, n_out: int) -> None:
        """Draw both uniformly within ``1 / sqrt(n_in)``, the usual initialisation."""
        bound = 1 / np.sqrt(n_in)
        self.kernel = nnx.Param(as_float(rng.uniform(-bound, bound, (n_in, n_out))))
        if self.use_bias:
            self.bias = nnx.Param(as_float(rng.uniform(-bound, bound, n_out)))

    def __call__(self, x):
        """Array of shape (n_rows, n_out)."""
        y = x @ self.kernel[...]
        return y + self.bias[...] if self.use_bias else y


class BatchNorm(nnx.Module):
    """Normalise each unit over the minibatch in training, by its running statistics at inference.

    Not layer normalisation: scVI, the reference for likelihoods, also normalises over the minibatch, and a cell's units
    keep their scales. The running statistics are a plain mean over the first ``1 / momentum`` steps and an exponential
    one after, so that they are not biased to their initial values after a short training.
    """

    def __init__(self, *, momentum: float = 0.01, epsilon: float = 1e-3):
        self.momentum, self.epsilon = momentum, epsilon

    def reset(self, n_units: int) -> None:
        """Scale 1, offset 0, and initial running statistics."""
        ones, zeros = np.ones(n_units), np.zeros(n_units)
        self.scale, self.offset = nnx.Param(as_float(ones)), nnx.Param(as_float(zeros))
        self.mean, self.variance = nnx.BatchStat(as_float(zeros)), nnx.BatchStat(as_float(ones))
        self.steps = nnx.BatchStat(as_float(0.0))

    def __call__(self, x, *, training: bool = False):
        """Array of the shape of ``x``; in training the statistics are updated with the minibatch."""
        if training:
            mean, variance = x.mean(axis=0), x.var(axis=0)
            self._remember(mean, variance * (len(x) / max(len(x) - 1, 1)))
        else:
            mean, variance = self.mean[...], self.variance[...]
        return (x - mean) * (self.scale[...] / jnp.sqrt(variance + self.epsilon)) + self.offset[...]

    def _remember(self, mean, variance) -> None:
        self.steps[...] = self.steps[...] + 1
        share = jnp.maximum(self.momentum, 1 / self.steps[...])
        self.mean[...] = self.mean[...] + share * jax.lax.stop_gradient(mean - self.mean[...])
        self.variance[...] = self.variance[...] + share * jax.lax.stop_gradient(variance - self.variance[...])


class Layer(nnx.Module):
    """Linear, batch normalisation, ReLU, dropout; covariates are appended to the input."""

    def __init__(self, *, dropout: float = 0.0):
        self.dropout = dropout
        self.linear, self.norm = Linear(use_bias=False), BatchNorm()

    def __call__(self, x, covariates=None, *, key=None):
        """Array of shape (n_rows, n_hidden)."""
        h = jax.nn.relu(self.norm(self.linear(joined(x, covariates)), training=key is not None))
        if key is None or self.dropout == 0:
            return h
        kept = jax.random.bernoulli(key, 1 - self.dropout, h.shape)
        return jnp.where(kept, h / (1 - self.dropout), 0)


class MLP(nnx.Module):
    """Hidden layers, each with the covariates in its input, as in scVI.

    ``key`` switches to training: dropout, and the statistics of the minibatch.
    """

    def __init__(self, n_layers: int, *, dropout: float = 0.0):
        self.layers = nnx.List([Layer(dropout=dropout) for _ in range(n_layers)])

    def reset(self, rng: np.random.Generator, n_in: int, n_hidden: int, n_covariates: int = 0) -> None:
        """Draw the parameters of every layer."""
        for layer in self.layers:
            layer.linear.reset(rng, n_in + n_covariates, n_hidden)
            layer.norm.reset(n_hidden)
            n_in = n_hidden

    def __call__(self, x, covariates=None, *, key=None):
        """Array of shape (n_rows, n_hidden)."""
        for i, layer in enumerate(self.layers):
            x = layer(x, covariates, key=None if key is None else jax.random.fold_in(key, i))
        return x


def joined(x, covariates):
    """Covariates as further columns, if there are any."""
    return x if covariates is None else jnp.concatenate([x, covariates], axis=-1)
