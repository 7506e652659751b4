"""Objectives, pure JAX: for ``dbx.optimize`` and for one's own training loops."""

from dbx.losses.counts import negative_binomial, poisson, zero_inflated_negative_binomial
from dbx.losses.latent import normal_kl
from dbx.losses.objectives import CrossEntropy, cross_entropy

__all__ = [
    "CrossEntropy",
    "cross_entropy",
    "negative_binomial",
    "normal_kl",
    "poisson",
    "zero_inflated_negative_binomial",
]
