"""Objectives in pure JAX, for ``dbx.optimize`` and for training loops in JAX."""

from dbx.losses.counts import negative_binomial, poisson, zero_inflated_negative_binomial
from dbx.losses.latent import normal_kl
from dbx.losses.neighbourhoods import batch_mixing, compactness, velocity_consistency
from dbx.losses.objectives import (
    BatchMixing,
    Compactness,
    CrossEntropy,
    Elbo,
    Function,
    OpenGates,
    Reconstruction,
    Sum,
    VelocityConsistency,
    cross_entropy,
)

__all__ = [
    "BatchMixing",
    "Compactness",
    "CrossEntropy",
    "Elbo",
    "Function",
    "OpenGates",
    "Reconstruction",
    "Sum",
    "VelocityConsistency",
    "batch_mixing",
    "compactness",
    "cross_entropy",
    "negative_binomial",
    "normal_kl",
    "poisson",
    "velocity_consistency",
    "zero_inflated_negative_binomial",
]
