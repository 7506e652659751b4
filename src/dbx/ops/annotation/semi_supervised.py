"""A VAE of counts with a latent prior for each label (scANVI: Xu et al., Molecular Systems Biology, 2021)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.losses.latent import normal_kl
from dbx.ops.arrays import as_float
from dbx.ops.counts.count_profile import Profile
from dbx.ops.counts.count_vae import CountVAE
from dbx.ops.nn.draws import drawn
from dbx.ops.nn.mlp import MLP, Linear
from dbx.ops.operator import Constant

HALF_LOG_2PI = 0.9189385332046727


class LabelledVAE(nnx.Module):
    """Counts depend on z1, and z1 on a label y and z2; networks approximate q(z1 | x), q(y | z1) and q(z2 | z1, y).

    ``classification`` is the weight of the cross-entropy of known labels, in nats per cell.
    """

    def __init__(self, *, n_classes: int, n_layers: int, dropout: float, classification: float, vae: CountVAE):
        self.n_classes, self.classification, self.vae = n_classes, classification, vae
        self.hidden, self.logits = MLP(n_layers, dropout=dropout), Linear()
        self.inward, self.z2 = MLP(n_layers, dropout=dropout), Linear()
        self.outward, self.z1 = MLP(n_layers), Linear()

    def reset(self, rng: np.random.Generator, start: Profile, n_hidden: int, share: np.ndarray) -> None:
        """Draw the parameters; ``share`` is the prior probability of each label, an array of shape (n_classes,)."""
        n_latent = self.vae.encoder.n_latent
        self.vae.reset(rng, start, n_hidden, by_batch=False)
        self.hidden.reset(rng, n_latent, n_hidden)
        self.logits.reset(rng, n_hidden, self.n_classes)
        for network, top in ((self.inward, self.z2), (self.outward, self.z1)):
            network.reset(rng, n_latent + self.n_classes, n_hidden)
            top.reset(rng, n_hidden, 2 * n_latent)
        self.log_prior = Constant(as_float(np.log(share)))

    def classify(self, z, *, key=None):
        """Log-probability of each label, array of shape (n_cells, n_classes)."""
        return jax.nn.log_softmax(self.logits(self.hidden(z, key=key)))

    def prior_terms(self, z, key=None):
        """Upper bound of ``-log p(z1 | y)`` for every label: array of shape (n_cells, n_classes)."""
        keys = [None] * 3 if key is None else jax.random.split(key, 3)
        labels = jnp.tile(jnp.eye(self.n_classes, dtype=z.dtype), (len(z), 1))
        z = jnp.repeat(z, self.n_classes, axis=0)
        mean, variance = _normal(self.z2(self.inward(jnp.concatenate([z, labels], axis=1), key=keys[0])))
        z2 = drawn(mean, variance, keys[1])
        centre, width = _normal(self.z1(self.outward(jnp.concatenate([z2, labels], axis=1), key=keys[2])))
        terms = normal_kl(mean, variance) - _log_normal(z, centre, width)
        return terms.reshape(-1, self.n_classes)


def semi_supervised(model: LabelledVAE, batch: dict[str, jax.Array], key, *, kl_weight):
    """Objective of each cell: the bound for its label, or without one the expectation over the posterior of labels.

    ``importance`` in the batch makes the cross-entropy a mean over the labelled cells.
    """
    keys = [None] * 5 if key is None else jax.random.split(key, 5)
    x, codes, labels = batch["x"], batch["batch"], batch["label"]
    mean, variance = model.vae.posterior(x, codes, key=keys[0])
    z = drawn(mean, variance, keys[1])
    reconstruction = -model.vae.decoder.log_likelihood(x, z, model.vae.covariates(codes, z.dtype), key=keys[2])
    log_share, known = model.classify(z, key=keys[3]), labels >= 0
    truth = jax.nn.one_hot(labels, model.n_classes, dtype=z.dtype)
    share = jnp.where(known[:, None], truth, jnp.exp(log_share))
    prior = (share * model.prior_terms(z, keys[4])).sum(axis=1)
    of_labels = (jnp.exp(log_share) * (log_share - model.log_prior[...])).sum(axis=1)
    divergence = _log_normal(z, mean, variance) + prior + jnp.where(known, 0, of_labels)
    error = -(truth * log_share).sum(axis=1) * batch["importance"]
    loss = reconstruction + kl_weight * divergence + model.classification * error
    return loss, {"reconstruction": reconstruction, "kl": divergence, "classification": error}


def _normal(values):
    """Mean and variance."""
    half = values.shape[1] // 2
    return values[:, :half], jnp.exp(values[:, half:]) + 1e-4


def _log_normal(z, mean, variance):
    """Log-density of diagonal normals, summed over the last axis."""
    return -(HALF_LOG_2PI + 0.5 * jnp.log(variance) + 0.5 * (z - mean) ** 2 / variance).sum(axis=-1)
