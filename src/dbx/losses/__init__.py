"""Objectives, pure JAX: for ``dbx.optimize`` and for one's own training loops."""

from dbx.losses.counts import negative_binomial, poisson, zero_inflated_negative_binomial
from dbx.losses.latent import normal_kl

__all__ = ["negative_binomial", "normal_kl", "poisson", "zero_inflated_negative_binomial"]
