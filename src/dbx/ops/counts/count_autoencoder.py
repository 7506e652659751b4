"""An autoencoder of counts with a batch-conditioned decoder, for batch correction by MMD and WGAN."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import as_float
from dbx.ops.counts.count_profile import Profile
from dbx.ops.counts.count_vae import CountDecoder
from dbx.ops.nn.draws import standard_normal
from dbx.ops.nn.mlp import MLP, Linear


class FixedScale(nnx.Module):
    """Subtract the mean and divide by the standard deviation over all dimensions: a latent space of fixed scale.

    One standard deviation for all dimensions, so that some may matter less than others; statistics of the minibatch in
    training, running ones at inference.
    """

    def __init__(self, *, momentum: float = 0.01, epsilon: float = 1e-6):
        self.momentum, self.epsilon = momentum, epsilon

    def reset(self, n_units: int) -> None:
        """Reset the running statistics."""
        self.mean = nnx.BatchStat(as_float(np.zeros(n_units)))
        self.variance, self.steps = nnx.BatchStat(as_float(1.0)), nnx.BatchStat(as_float(0.0))

    def __call__(self, x, *, training: bool = False):
        """Array of the shape of ``x``, whose dimensions have variance 1 on average."""
        mean, variance = self.mean[...], self.variance[...]
        if training:
            mean = x.mean(axis=0)
            variance = jnp.mean((x - mean) ** 2)
            self.steps[...] = self.steps[...] + 1
            share = jnp.maximum(self.momentum, 1 / self.steps[...])
            for known, seen in ((self.mean, mean), (self.variance, variance)):
                known[...] = known[...] + share * jax.lax.stop_gradient(seen - known[...])
        return (x - mean) / jnp.sqrt(variance + self.epsilon)


class CountAutoencoder(nnx.Module):
    """log1p counts to latent coordinates of fixed scale, decoded with the batch to the distribution of the counts.

    The encoder has no batch. In training normal noise of standard deviation ``noise`` is added to the
    coordinates, so that cells with similar decodings are close together.
    """

    def __init__(self, *, likelihood: str, n_latent: int, n_layers: int, dropout: float, noise: float, n_batches: int):
        self.n_latent, self.noise, self.n_batches = n_latent, noise, n_batches
        self.hidden, self.latent, self.scale = MLP(n_layers, dropout=dropout), Linear(), FixedScale()
        self.decoder = CountDecoder(likelihood=likelihood, n_layers=n_layers)

    def reset(self, rng: np.random.Generator, start: Profile, n_hidden: int) -> None:
        """Draw the parameters."""
        self.n_batches, n_genes = start.frequency.shape
        self.hidden.reset(rng, n_genes, n_hidden)
        self.latent.reset(rng, n_hidden, self.n_latent)
        self.scale.reset(self.n_latent)
        self.decoder.reset(rng, start, self.n_latent, n_hidden, by_batch=False)

    def encode(self, x, *, key=None):
        """Latent coordinates, an array of shape (n_cells, n_latent); ``key`` switches to training, without noise."""
        return self.scale(self._unscaled(x, key), training=key is not None)

    def _unscaled(self, x, key=None):
        return self.latent(self.hidden(jnp.log1p(x), key=key))

    def settle(self, x: RowBlocks) -> None:
        """Set mean and standard deviation to those of all cells, once the encoder is trained."""
        graphdef, state = nnx.split(self)
        run = jax.jit(lambda state, rows: nnx.merge(graphdef, state)._unscaled(rows))
        blocks = [np.asarray(run(state, block.rows), np.float64)[block.mask] for block in x]
        mean = sum(block.sum(axis=0) for block in blocks) / x.n_rows
        variance = sum(((block - mean) ** 2).sum() for block in blocks) / (x.n_rows * self.n_latent)
        self.scale.mean[...], self.scale.variance[...] = as_float(mean), as_float(variance)

    def reconstruction(self, x, z, codes, *, key=None):
        """Negative log-likelihood of each cell (without ``log x!``), an array of shape (n_cells,)."""
        if key is None:
            return -self.decoder.log_likelihood(x, z, self.indicators(codes))
        at = jax.random.split(key)
        z = z + self.noise * standard_normal(at[0], z.shape, z.dtype)
        return -self.decoder.log_likelihood(x, z, self.indicators(codes), key=at[1])

    def membership(self, codes):
        """One column for each batch; a code of -1 is in none."""
        return jax.nn.one_hot(codes, self.n_batches)

    def indicators(self, codes):
        """Indicators of the batch for the decoder; a code of -1 gives equal weights to all."""
        return jnp.where((codes < 0)[:, None], 1 / self.n_batches, self.membership(codes))
