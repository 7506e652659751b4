"""Forward and backward messages in logarithms, for probabilities that differ by more than the range of numbers."""

from __future__ import annotations

import numpy as np

from dbx.ops.hmm.messages import Expected
from dbx.ops.hmm.packed import Packed


def log_expected(packed: Packed, log_emission: np.ndarray, startprob: np.ndarray, transmat: np.ndarray) -> Expected:
    """As :meth:`dbx.ops.hmm.messages.Sweeps.expected`, one sequence after another and in float64: slow, for any range.

    Raises
    ------
    ValueError
        A sequence has probability zero.
    """
    n_models, n_sequences = len(startprob), len(packed.firsts)
    posterior = np.empty_like(log_emission)
    log_likelihood, predictive = np.empty((n_models, n_sequences)), np.empty((n_models, log_emission.shape[2]))
    transitions, starts = np.zeros(transmat.shape), np.zeros(startprob.shape)
    ends = np.cumsum(np.bincount(packed.sequence))
    for model in range(n_models):
        for number, positions in enumerate(np.split(packed.ordered, ends[:-1])):
            with np.errstate(divide="ignore"):
                logs = np.log(startprob[model]), np.log(transmat[model])
            total, gamma, counts, so_far = _one(log_emission[model][:, positions], *logs)
            if not np.isfinite(total):
                msg = (
                    f"Sequence {number} has probability zero in this model: no path of states with transitions above "
                    "zero emits it. Check params, labels_key, or add transmat_prior and emission_prior."
                )
                raise ValueError(msg)
            log_likelihood[model, number], posterior[model][:, positions] = total, gamma
            transitions[model] += counts
            starts[model] += gamma[:, 0]
            predictive[model, positions] = np.diff(so_far, prepend=0)
    return Expected(log_likelihood, posterior, transitions, starts, predictive)


def _one(log_emission, log_start, log_transition):
    n_states, n = log_emission.shape
    alpha, beta = np.empty((n, n_states)), np.zeros((n, n_states))
    alpha[0] = log_start + log_emission[:, 0]
    for t in range(1, n):
        alpha[t] = _sum(alpha[t - 1][:, None] + log_transition, axis=0) + log_emission[:, t]
    for t in range(n - 2, -1, -1):
        beta[t] = _sum(log_transition + log_emission[:, t + 1] + beta[t + 1], axis=1)
    total = _sum(alpha[-1], axis=0)
    if not np.isfinite(total):
        return total, log_emission, log_transition, alpha[:, 0]
    pairs = alpha[:-1, :, None] + log_transition + (log_emission[:, 1:].T + beta[1:])[:, None]
    return total, np.exp(alpha + beta - total).T, np.exp(pairs - total).sum(axis=0), _sum(alpha, axis=1)


def _sum(x, axis):
    """Logarithm of the sum of exponentials, -inf where all are."""
    highest = x.max(axis=axis, keepdims=True)
    highest = np.where(np.isfinite(highest), highest, 0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(x - highest).sum(axis=axis)) + highest.squeeze(axis)
