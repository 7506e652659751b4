"""Objectives in pure JAX, for ``dbx.optimize`` and for training loops in JAX."""

from dbx.losses.count_objectives import ZINB, NegativeBinomial, Poisson
from dbx.losses.counts import negative_binomial, poisson, zero_inflated_negative_binomial
from dbx.losses.hidden_markov import HMMLikelihood, hmm_log_likelihood
from dbx.losses.labels import CrossEntropy, cross_entropy
from dbx.losses.latent import normal_kl
from dbx.losses.neighbourhoods import (
    BatchMixing,
    Compactness,
    VelocityConsistency,
    batch_mixing,
    compactness,
    velocity_consistency,
)
from dbx.losses.objectives import Function, Sum
from dbx.losses.reconstruction import MaskedReconstruction, Reconstruction
from dbx.losses.steps import Elbo, ExpectedFragments, OpenGates
from dbx.losses.trajectories import Fate, Ordering, fate_cross_entropy, ordering
from dbx.losses.vae import Vae, reconstruction_loss

__all__ = [
    "ZINB",
    "BatchMixing",
    "Compactness",
    "CrossEntropy",
    "Elbo",
    "ExpectedFragments",
    "Fate",
    "Function",
    "HMMLikelihood",
    "MaskedReconstruction",
    "NegativeBinomial",
    "OpenGates",
    "Ordering",
    "Poisson",
    "Reconstruction",
    "Sum",
    "Vae",
    "VelocityConsistency",
    "batch_mixing",
    "compactness",
    "cross_entropy",
    "fate_cross_entropy",
    "hmm_log_likelihood",
    "negative_binomial",
    "normal_kl",
    "ordering",
    "poisson",
    "reconstruction_loss",
    "velocity_consistency",
    "zero_inflated_negative_binomial",
]
