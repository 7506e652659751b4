"""Likelihood of hidden Markov models, in logarithms with exact zeros."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class LogMessages(NamedTuple):
    """What :func:`markov_messages` finds at each position."""

    log_posterior: Any
    """Array of shape (n_positions, n_states)."""
    log_predictive: Any
    """Log-probability of each position given those before it in its sequence, an array of shape (n_positions,)."""


def hmm_log_likelihood(log_startprob, log_transmat, log_emission, lengths=None):
    """Log-likelihood of each of several sequences under a hidden Markov model, in nats.

    A pure function, differentiable in all of its inputs. A zero probability is ``-inf``, and its derivative is zero.

    Parameters
    ----------
    log_startprob
        Logarithms of the probabilities of the first state up to a constant, which are normalised: array of shape
        (n_states,).
    log_transmat
        The same of transitions, row by row: array of shape (n_states, n_states).
    log_emission
        Log-probabilities of the data given each state: array of shape (n_sequences, n_positions, n_states).
    lengths
        Number of positions of each sequence, array of shape (n_sequences,); what is behind is padding. All by default.

    Returns
    -------
    Array of shape (n_sequences,).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dbx.losses import hmm_log_likelihood
    >>> half = jnp.log(jnp.full((2, 2), 0.5))
    >>> coin = jnp.log(jnp.array([[[0.9, 0.1], [0.1, 0.9], [0.9, 0.1]]]))
    >>> float(jnp.exp(hmm_log_likelihood(half[0], half, coin))[0].round(3))
    0.125
    """
    start, transition = normalised(jnp.asarray(log_startprob)), normalised(jnp.asarray(log_transmat))
    log_emission = jnp.asarray(log_emission)
    n = log_emission.shape[1]
    goes_on = jnp.arange(1, n)[:, None] < (jnp.full(len(log_emission), n) if lengths is None else jnp.asarray(lengths))

    def step(alpha, given):
        emission, here = given
        following = log_sum(alpha[:, :, None] + transition, axis=1) + emission
        return jnp.where(here[:, None], following, alpha), None

    first = start + log_emission[:, 0]
    last, _ = jax.lax.scan(step, first, (log_emission[:, 1:].swapaxes(0, 1), goes_on))
    return log_sum(last, axis=1)


def normalised(logs):
    """Logarithms whose exponentials sum to 1 along the last axis; ``-inf`` stays, with a derivative of zero."""
    return logs - log_sum(logs, axis=-1)[..., None]


def log_sum(x, axis: int):
    """Logarithm of the sum of exponentials; -inf, with a derivative of zero, where all are."""
    highest = jax.lax.stop_gradient(x.max(axis=axis, keepdims=True))
    highest = jnp.where(jnp.isfinite(highest), highest, 0)
    total = jnp.exp(x - highest).sum(axis=axis)
    some = total > 0
    return jnp.where(some, jnp.log(jnp.where(some, total, 1)) + highest.squeeze(axis), -jnp.inf)


def markov_messages(log_startprob, log_transmat, log_emission, begins) -> LogMessages:
    """Posteriors of the states of sequences one after another, and the predictive probability of each position.

    Sequences are cut together into about as many pieces as pieces have positions. Pieces are scanned side by side as
    products of matrices, then from piece to piece, and once more side by side with the message that enters each.
    ``log_emission`` has shape (n_positions, n_states); ``begins`` says where a sequence begins, at the first position
    at least.
    """
    moves = jnp.where(begins[:, None, None], log_startprob, log_transmat) + log_emission[:, None]
    n_states = log_emission.shape[1]
    alpha, scale = _prefixes(moves, jnp.full(n_states, -math.log(n_states), log_emission.dtype))
    back = jnp.flip(moves[1:], axis=0).swapaxes(1, 2)
    beta, _ = _prefixes(back, jnp.zeros(n_states, log_emission.dtype))
    beta = jnp.concatenate([jnp.flip(beta, axis=0), jnp.zeros((1, n_states), beta.dtype)])
    return LogMessages(normalised(alpha + beta), scale)


def _prefixes(moves, start):
    """Message after each of the moves, scaled to sum to 1, and the logarithm of each factor."""
    n, n_states = moves.shape[:2]
    if n == 0:
        return jnp.zeros((0, n_states), moves.dtype), jnp.zeros(0, moves.dtype)
    size = math.isqrt(n - 1) + 1
    n_pieces = -(-n // size)
    still = jnp.where(jnp.eye(n_states, dtype=bool), 0.0, -jnp.inf).astype(moves.dtype)
    padding = jnp.broadcast_to(still, (n_pieces * size - n, n_states, n_states))
    steps = jnp.concatenate([moves, padding]).reshape(n_pieces, size, n_states, n_states).swapaxes(0, 1)

    def through(product, move):
        found = log_sum(product[:, :, :, None] + move[:, None], axis=2)
        return found - _finite(found.max(axis=(1, 2), keepdims=True)), None

    def across(message, product):
        found = log_sum(message[:, None] + product, axis=0)
        return found - _finite(log_sum(found, axis=0)), message

    def along(message, move):
        found = log_sum(message[:, :, None] + move, axis=1)
        factor = log_sum(found, axis=1)
        found = found - _finite(factor)[:, None]
        return found, (found, factor)

    products, _ = jax.lax.scan(through, jnp.broadcast_to(still, (n_pieces, n_states, n_states)), steps)
    _, entering = jax.lax.scan(across, start, products)
    _, (messages, factors) = jax.lax.scan(along, entering, steps)
    return messages.swapaxes(0, 1).reshape(-1, n_states)[:n], factors.T.reshape(-1)[:n]


def _finite(x):
    return jnp.where(jnp.isfinite(x), x, 0)
