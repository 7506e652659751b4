"""What the network is trained for: values of hidden genes, which gene has a rank, and cells seen twice."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.losses.counts import negative_binomial_kernel, poisson_kernel
from dbx.ops.arrays import as_float
from dbx.ops.foundation.masking import hidden_genes, thinner
from dbx.ops.foundation.network import Network, Shape
from dbx.ops.foundation.smoothing import SHARE
from dbx.ops.foundation.values import SCALE
from dbx.ops.nn.mlp import Linear
from dbx.ops.operator import Constant

LIKELIHOODS = ("nb", "poisson", "gaussian")
OBJECTIVES = ("value", "rank", "both")
N_ASKED = 32
"""Hidden genes of a cell whose identity is asked for in a step."""
LEAST_DEPTH = 0.05
N_VALIDATIONS = 3
"""Masks of each held-out cell."""
TEMPERATURE = 0.1
"""Of the contrast of cells."""


class Predictor(nnx.Module):
    """The network with what its objectives need besides."""

    def __init__(self, shape: Shape, likelihood: str, objective: str):
        self.likelihood, self.objective = likelihood, objective
        self.network = Network(shape)
        if objective in ("rank", "both"):
            self.place, self.asked = Linear(), Linear(use_bias=False)

    def reset(self, rng: np.random.Generator, genes, frequency, weight, theta, moments) -> None:
        """Draw the parameters; ``theta`` and ``moments`` (means and sds of log values) are of genes."""
        self.network.reset(rng, genes, frequency, weight)
        if self.likelihood == "nb":
            self.log_theta = nnx.Param(as_float(np.log(theta)))
        if self.likelihood == "gaussian":
            self.mean, self.log_sd = Constant(as_float(moments[0])), nnx.Param(as_float(np.log(moments[1])))
        if self.objective in ("rank", "both"):
            n_hidden = self.network.shape.n_hidden
            self.place.reset(rng, n_hidden + 2, n_hidden)
            self.asked.reset(rng, n_hidden, n_hidden)

    def log_likelihood(self, x, cell, depth, batch=None):
        """Of each count, up to terms without parameters; an array of shape (n_cells, n_genes)."""
        if self.likelihood == "gaussian":
            sd = jnp.exp(self.log_sd[...])
            off = (jnp.log1p(x / depth * SCALE) - self.mean[...] - self.network.log_fold(cell)) / sd
            return -0.5 * off**2 - self.log_sd[...]
        log_mean = self.network.log_mean(cell, depth, batch)
        if self.likelihood == "poisson":
            return poisson_kernel(x, log_mean)
        return negative_binomial_kernel(x, log_mean, jnp.exp(self.log_theta[...]))

    def expected(self, cell, depth):
        """Expected counts, an array of shape (n_cells, n_genes)."""
        if self.likelihood == "gaussian":
            return jnp.expm1(jnp.maximum(self.mean[...] + self.network.log_fold(cell), 0)) * depth / SCALE
        return jnp.exp(self.network.log_mean(cell, depth))

    def log_share(self, cell, rank):
        """Log-probability of each gene at a place in the ranked list, of shape (n_cells, n_asked, n_genes).

        ``rank`` is the rank over the number of genes, an array of shape (n_cells, n_asked).
        """
        place = jnp.stack([rank, jnp.log(rank + 1e-2)], axis=-1)
        known = jnp.broadcast_to(cell[:, None], (*rank.shape, cell.shape[1]))
        asked = self.asked(jax.nn.gelu(self.place(jnp.concatenate([known, place], axis=-1))))
        logits = asked @ self.network.gene_decoder[...].T / np.sqrt(cell.shape[1]) + self.network.log_frequency[...]
        return jax.nn.log_softmax(logits, axis=-1)


@dataclass(frozen=True)
class Masked:
    """Loss of each cell: what is hidden from the network is predicted; in validation always the same is hidden."""

    mask_rate: float
    mask_rate_range: tuple[float, float] | None
    contrastive_weight: float

    def __call__(self, model: Predictor, batch: dict[str, jax.Array], key):
        """Negative log-likelihood for a hidden gene, and of other objectives where there are any."""
        if key is not None:
            return self._loss(model, batch, key, training=True)
        keys = jax.random.split(jax.random.key(0), N_VALIDATIONS)
        losses = jax.lax.map(lambda one: self._loss(model, batch, one, training=False), keys)
        return jax.tree.map(lambda terms: terms.mean(axis=0), losses)

    def _loss(self, model: Predictor, batch: dict[str, jax.Array], key, *, training: bool):
        keys = jax.random.split(key, 6)
        x, network = batch["x"], model.network
        offered = 1 - batch["mask"] if "mask" in batch else jnp.ones_like(x)
        rates = self.mask_rate_range if training and self.mask_rate_range else (self.mask_rate, self.mask_rate)
        hidden = hidden_genes(keys[0], x.shape, rates) * offered
        shown = offered - hidden
        seen = thinner(x, keys[1], LEAST_DEPTH) if training else x
        cell = network(seen, shown, keys[2] if training else None)
        loss, followed = jnp.zeros(len(x)), {}
        if model.objective != "rank":
            target = (1 - SHARE) * x + SHARE * batch["near"] if training and "near" in batch else x
            found = model.log_likelihood(target, cell, network.depth(x, shown), batch.get("batch"))
            followed["value"] = -(found * hidden).sum(axis=1) / jnp.maximum(hidden.sum(axis=1), 1)
        if model.objective != "value":
            followed["rank"] = rank_loss(model, x, cell, hidden, offered, keys[3])
        if self.contrastive_weight and training:
            again = network(x, offered - hidden_genes(keys[4], x.shape, rates) * offered, keys[5])
            loss = loss + self.contrastive_weight * contrast(cell, again)
        return loss + sum(followed.values()), followed


def rank_loss(model: Predictor, x, cell, hidden, offered, key):
    """Mean negative log-probability of some hidden expressed genes, given their place among all genes of the cell."""
    values = x * offered / model.network.frequency[...]
    order = jnp.argsort(jnp.argsort(-values, axis=1), axis=1) + 1
    rank = order / x.shape[1]
    score = jnp.where((hidden > 0) & (x > 0), jax.random.uniform(key, x.shape), -1)
    there, genes = jax.lax.top_k(score, min(N_ASKED, x.shape[1]))
    log_share = model.log_share(cell, jnp.take_along_axis(rank, genes, axis=1))
    found = jnp.take_along_axis(log_share, genes[..., None], axis=-1)[..., 0]
    there = there >= 0
    return -jnp.where(there, found, 0).sum(axis=1) / jnp.maximum(there.sum(axis=1), 1)


def contrast(one, two):
    """Cross-entropy of which cell of the minibatch another view is of (Chen et al., ICML, 2020)."""

    def unit(z):
        z = z - jax.lax.stop_gradient(z.mean(axis=0))
        return z / jnp.sqrt((z**2).sum(axis=1, keepdims=True) + 1e-6)

    logits = unit(one) @ unit(two).T / TEMPERATURE
    return -jnp.diagonal(jax.nn.log_softmax(logits, axis=1))
