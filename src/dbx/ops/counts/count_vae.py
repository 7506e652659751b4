"""Encoder and decoder of counts that the variational models share (scVI: Lopez et al., Nature Methods, 2018)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.losses.counts import negative_binomial_kernel, poisson_kernel, zero_inflated_kernel
from dbx.losses.latent import normal_kl
from dbx.ops.arrays import as_float
from dbx.ops.counts.count_profile import Profile
from dbx.ops.nn.draws import drawn
from dbx.ops.nn.mlp import MLP, Linear, joined


class CountEncoder(nnx.Module):
    """log1p of counts to mean and variance of a normal posterior."""

    def __init__(self, *, n_latent: int, n_layers: int, dropout: float):
        self.n_latent = n_latent
        self.hidden, self.posterior = MLP(n_layers, dropout=dropout), Linear()

    def reset(self, rng: np.random.Generator, n_genes: int, n_hidden: int, n_covariates: int) -> None:
        """Draw the parameters."""
        self.hidden.reset(rng, n_genes, n_hidden, n_covariates)
        self.posterior.reset(rng, n_hidden, 2 * self.n_latent)

    def __call__(self, x, covariates=None, *, key=None):
        """Mean and variance, arrays of shape (n_cells, n_latent)."""
        posterior = self.posterior(self.hidden(jnp.log1p(x), covariates, key=key))
        return posterior[:, : self.n_latent], jnp.exp(posterior[:, self.n_latent :]) + 1e-4


class CountDecoder(nnx.Module):
    """Latent coordinates to the distribution of a cell's counts, given its total.

    The covariates (indicators of the batch, then any others) enter every layer including the last, which unlike scVI's
    has an intercept for each gene in each batch. The intercept starts at the logarithm of the gene's frequency in the
    batch, and the dispersion at its estimate by moments, so that training starts near the gene-mean model.
    """

    def __init__(self, *, likelihood: str, n_layers: int):
        self.likelihood = likelihood
        self.hidden, self.scale = MLP(n_layers), Linear()
        if likelihood == "zinb":
            self.inflation = Linear()

    def reset(
        self,
        rng: np.random.Generator,
        start: Profile,
        n_latent: int,
        n_hidden: int,
        *,
        by_batch: bool,
        n_extra: int = 0,
    ) -> None:
        """Draw the parameters; ``by_batch`` gives each batch separate dispersions."""
        n_batches, n_genes = start.frequency.shape
        n_told = n_batches if n_batches > 1 else 0
        n_covariates = n_told + n_extra
        self.hidden.reset(rng, n_latent, n_hidden, n_covariates)
        self.scale.reset(rng, n_hidden + n_covariates, n_genes)
        level = np.log(start.frequency)
        self.scale.bias[...] = as_float(level.mean(axis=0))
        if n_covariates:
            kernel = np.array(self.scale.kernel[...])
            kernel[n_hidden:] = 0
            kernel[n_hidden : n_hidden + n_told] = (level - level.mean(axis=0))[:n_told]
            self.scale.kernel[...] = as_float(kernel)
        if self.likelihood == "zinb":
            self.inflation.reset(rng, n_hidden + n_covariates, n_genes)
        if self.likelihood != "poisson":
            theta = np.tile(np.log(start.theta), (n_batches if by_batch else 1, 1))
            self.log_theta = nnx.Param(as_float(theta))

    def __call__(self, z, covariates=None, *, key=None) -> dict[str, jax.Array]:
        """Log-proportions of the genes and, if the likelihood has them, ``theta`` and ``inflation`` log-odds."""
        hidden = joined(self.hidden(z, covariates, key=key), covariates)
        decoded = {"log_proportion": jax.nn.log_softmax(self.scale(hidden))}
        if self.likelihood == "zinb":
            decoded["inflation"] = self.inflation(hidden)
        if self.likelihood != "poisson":
            log_theta = self.log_theta[...]
            by_batch = covariates is not None and len(log_theta) > 1
            decoded["theta"] = jnp.exp(covariates[:, : len(log_theta)] @ log_theta if by_batch else log_theta)
        return decoded

    def log_likelihood(self, x, z, covariates=None, *, key=None):
        """Log-likelihood of each cell's counts given its total, without ``-log x!``: an array of shape (n_cells,)."""
        decoded = self(z, covariates, key=key)
        log_mean = decoded["log_proportion"] + jnp.log(x.sum(axis=-1, keepdims=True))
        if self.likelihood == "poisson":
            return sum_by_product(poisson_kernel(x, log_mean))
        theta = for_rows(decoded["theta"], len(x))
        if self.likelihood == "nb":
            return sum_by_product(negative_binomial_kernel(x, log_mean, theta))
        return sum_by_product(zero_inflated_kernel(x, log_mean, theta, decoded["inflation"]))


def sum_by_product(entries):
    """Sums over genes as a product: XLA compiles a plain sum to loops that each recompute the entries."""
    return jnp.matmul(entries, jnp.ones(entries.shape[1], entries.dtype), precision="highest")


def for_rows(theta, n_rows: int):
    """Repeat a row for all cells by a product, whose transpose sums over cells; see :func:`sum_by_product`."""
    if len(theta) == n_rows:
        return theta
    return jnp.matmul(jnp.ones((n_rows, 1), theta.dtype), theta, precision="highest")


class CountVAE(nnx.Module):
    """Encoder and decoder with their covariates; without the settings of an operator."""

    def __init__(
        self, *, likelihood: str, n_latent: int, n_layers: int, dropout: float, encode_batch: bool, n_batches: int
    ):
        self.encode_batch, self.n_batches = encode_batch, n_batches
        self.encoder = CountEncoder(n_latent=n_latent, n_layers=n_layers, dropout=dropout)
        self.decoder = CountDecoder(likelihood=likelihood, n_layers=n_layers)

    def reset(
        self, rng: np.random.Generator, start: Profile, n_hidden: int, *, by_batch: bool, n_extra: int = 0
    ) -> None:
        """Draw the parameters; see :meth:`CountDecoder.reset`. ``n_extra`` covariates come after the batches."""
        self.n_batches, n_genes = start.frequency.shape
        n_told = (self.n_batches if self.n_batches > 1 else 0) + n_extra
        self.encoder.reset(rng, n_genes, n_hidden, n_told if self.encode_batch else 0)
        self.decoder.reset(rng, start, self.encoder.n_latent, n_hidden, by_batch=by_batch, n_extra=n_extra)

    def posterior(self, x, codes, *, key=None, extra=None) -> tuple[jax.Array, jax.Array]:
        """Mean and variance of the latent coordinates, arrays of shape (n_cells, n_latent)."""
        return self.encoder(x, self.covariates(codes, x.dtype, extra) if self.encode_batch else None, key=key)

    def elbo_terms(self, x, codes, key=None, *, extra=None) -> tuple[jax.Array, jax.Array]:
        """Reconstruction (without ``log x!``) and divergence of each cell; at the posterior mean without a key."""
        keys = [None] * 3 if key is None else jax.random.split(key, 3)
        mean, variance = self.posterior(x, codes, key=keys[0], extra=extra)
        divergence = normal_kl(mean, variance)
        z = drawn(mean, variance, keys[1])
        covariates = self.covariates(codes, z.dtype, extra)
        return -self.decoder.log_likelihood(x, z, covariates, key=keys[2]), divergence

    def covariates(self, codes, dtype, extra=None):
        """One column for each batch, then the ``extra`` ones; None for one batch and no others.

        The code of an unknown batch gives equal weights to all.
        """
        extra = None if extra is None else extra.astype(dtype)
        if self.n_batches == 1:
            return extra
        known = jax.nn.one_hot(codes, self.n_batches, dtype=dtype)
        of_batch = jnp.where(((codes < 0) | (codes >= self.n_batches))[:, None], 1 / self.n_batches, known)
        return joined(of_batch, extra)


def negative_elbo(model: CountVAE, batch: dict[str, jax.Array], key, *, kl_weight):
    """Loss of each cell, for :func:`dbx.ops.nn.training.train`; in validation the negative evidence lower bound."""
    reconstruction, divergence = model.elbo_terms(batch["x"], batch["batch"], key, extra=batch.get("extra"))
    reconstruction = reconstruction + batch.get("log_factorial", 0)
    return reconstruction + (1 if key is None else kl_weight) * divergence, {
        "reconstruction": reconstruction,
        "kl": divergence,
    }
