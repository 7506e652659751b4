"""Batch correction against a Wasserstein critic."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.batch.batch_correction import BatchCorrection
from dbx.ops.checks import check_at_least
from dbx.ops.counts.count_autoencoder import CountAutoencoder
from dbx.ops.nn.adversarial import train_against
from dbx.ops.nn.mlp import Linear

CRITIC_UNITS = 64
PENALTY = 10.0
"""Weight of the gradient penalty of the critic (Gulrajani et al.)."""


class Critic(nnx.Module):
    """Latent coordinates to one score per batch, high for cells of the batch; two hidden layers, no normalisation."""

    def __init__(self):
        self.first, self.second, self.last = Linear(), Linear(), Linear()

    def reset(self, rng: np.random.Generator, n_latent: int, n_batches: int) -> None:
        """Draw the parameters."""
        self.first.reset(rng, n_latent, CRITIC_UNITS)
        self.second.reset(rng, CRITIC_UNITS, CRITIC_UNITS)
        self.last.reset(rng, CRITIC_UNITS, n_batches)

    def __call__(self, z):
        """Array of shape (n_cells, n_batches)."""
        return self.last(jax.nn.softplus(self.second(jax.nn.softplus(self.first(z)))))


class Contest(nnx.Module):
    """The autoencoder and its critic."""

    def __init__(self, autoencoder: CountAutoencoder):
        self.autoencoder, self.critic = autoencoder, Critic()

    def distance(self, z, batch):
        """The critic's estimate of the Wasserstein distance of a batch to the others, mean over batches: a scalar."""
        share = signed_shares(self.autoencoder.membership(batch["batch"]), batch.get("weights"))
        return jnp.sum(share * self.critic(z)) / share.shape[1]


class WGAN(BatchCorrection):
    """An autoencoder trained for a small Wasserstein distance, by a critic, between the batches' latent distributions.

    New cells: the trained encoder, which needs no batch.
    """

    name = "wgan"
    followed: ClassVar = ("loss", "reconstruction", "distance", "critic_loss")

    def __init__(
        self,
        *,
        likelihood: str = "nb",
        n_latent: int = 10,
        n_hidden: int = 128,
        n_layers: int = 1,
        strength: float = 100.0,
        weighted: bool = True,
        critic_steps: int = 5,
        max_epochs: int | None = None,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        n_genes: int | None = None,
        n_batches: int | None = None,
    ):
        super().__init__(
            likelihood=likelihood,
            n_latent=n_latent,
            n_hidden=n_hidden,
            n_layers=n_layers,
            strength=strength,
            weighted=weighted,
            max_epochs=max_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            n_genes=n_genes,
            n_batches=n_batches,
        )
        check_at_least(critic_steps, 1, "critic_steps")
        self.critic_steps = critic_steps

    def _train(self, data, how, rng, seed, progress):
        """Train the autoencoder and its critic; the critic is not kept."""
        contest = Contest(self.autoencoder)
        contest.critic.reset(rng, self.n_latent, self.autoencoder.n_batches)
        return train_against(
            contest,
            objective,
            critic_objective,
            data,
            how,
            critic=nnx.PathContains("critic"),
            critic_steps=self.critic_steps,
            seed=seed,
            progress=progress,
        )


def objective(model: Contest, batch: dict[str, jax.Array], key, *, strength):
    """Loss of the autoencoder: negative log-likelihood of the counts plus the weighted distance between batches."""
    keys = jax.random.split(key)
    z = model.autoencoder.encode(batch["x"], key=keys[0])
    reconstruction = model.autoencoder.reconstruction(batch["x"], z, batch["batch"], key=keys[1])
    distance = jnp.broadcast_to(model.distance(z, batch), reconstruction.shape)
    return reconstruction + strength * distance, {"reconstruction": reconstruction, "distance": distance}


def critic_objective(model: Contest, batch: dict[str, jax.Array], key, *, strength):
    """Loss of the critic: the negative distance plus a penalty on gradients other than 1 between different batches."""
    keys = jax.random.split(key, 3)
    z = jax.lax.stop_gradient(model.autoencoder.encode(batch["x"], key=keys[0]))
    other = jax.random.permutation(keys[1], z)
    between = z + jax.random.uniform(keys[2], (len(z), 1)) * (other - z)
    slope = jax.vmap(jax.grad(lambda one, batch: model.critic(one)[batch]))(between, batch["batch"])
    length = jnp.sqrt(jnp.sum(slope**2, axis=1) + 1e-12)
    return PENALTY * (length - 1) ** 2 - model.distance(z, batch), {}


def signed_shares(membership, weights=None):
    """Weight of each cell in the distance of each batch to the others, an array of shape (n_cells, n_batches).

    In column b cells of batch b have positive weights that sum to 1, all others negative weights that sum to -1;
    ``weights`` are as in :func:`dbx.losses.mmd`. A column is zero if the minibatch lacks the batch, or any other.
    """
    n_batches = membership.shape[1]
    weights = jnp.ones_like(membership) if weights is None else weights
    share = membership.T[:, None] * weights.T  # (a, b, i): weight of cell i of batch a against batch b
    total = share.sum(axis=2)
    share = share / jnp.maximum(total, 1e-12)[:, :, None]
    some = (total > 0) & (total.T > 0) & ~jnp.eye(n_batches, dtype=bool)
    pairs = jnp.where(some[:, :, None], share - share.swapaxes(0, 1), 0)
    return (pairs.sum(axis=1) / jnp.maximum(some.sum(axis=1), 1)[:, None]).T
