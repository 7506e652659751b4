"""Divergences between latent distributions."""

from __future__ import annotations

import jax.numpy as jnp


def normal_kl(mean, variance, prior_mean=0.0, prior_variance=1.0):
    """Kullback-Leibler divergence of diagonal normals, ``KL(q || p)`` in nats, summed over the last axis.

    Parameters
    ----------
    mean, variance
        Of ``q``, arrays of shape (..., n_latent).
    prior_mean, prior_variance
        Of ``p``, broadcast against them; the standard normal by default.
    """
    ratio = variance / prior_variance
    distance = (mean - prior_mean) ** 2 / prior_variance
    return 0.5 * jnp.sum(ratio + distance - 1 - jnp.log(ratio), axis=-1)
