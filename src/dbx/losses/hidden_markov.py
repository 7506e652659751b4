"""Likelihood of hidden Markov models, in logarithms with exact zeros."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from dbx.losses.objectives import Brought, Cells
from dbx.losses.steps import Elbo

SMALL = 1e-6
"""Least change of spread that counts."""


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


@dataclass(frozen=True, repr=False)
class HMMLikelihood(Elbo):
    """Negative log-likelihood of sequences under a hidden Markov model, in nats for each row given those before it.

    The model is a step of the program, trained with the others in minibatches of whole sequences: one recorded by
    :func:`dbx.tl.hmm`, or, with ``n_states``, one that is fitted before training on what ``inputs`` names and recorded
    with the results. An embedding that shrinks becomes more likely for no reason: where the trained steps compute the
    data, the logarithm of the change of the spread of each feature is subtracted, so that scale does not matter.

    Parameters
    ----------
    n_states
        Number of states of a new model; None for that of a recorded step.
    emission
        Distribution of the data given the state, as in :func:`dbx.tl.hmm`.
    params
        Parameters that the fit of a new model starts from, as in :func:`dbx.tl.hmm`.
    inputs
        Inputs of a new model and their slots: ``"z"`` (coordinates), ``"x"`` (a matrix of genes) or ``"codes"``, and
        ``"sequences"``, ``"positions"``, ``"sizes"`` and ``"labels"``.
    step
        Name of the recorded step, by default the last one of a hidden Markov model, and of a new one.

    Examples
    --------
    >>> import dbx
    >>> dbx.losses.HMMLikelihood(3, inputs={"z": "obsm/X_pca", "sequences": "obs/donor"})
    HMMLikelihood(3, inputs={'z': 'obsm/X_pca', 'sequences': 'obs/donor'})
    """

    n_states: int | None = None
    emission: Literal["gaussian", "categorical", "poisson", "nb"] = "gaussian"
    params: Mapping[str, Any] | None = field(default=None, kw_only=True)
    inputs: Mapping[str, str] | None = field(default=None, kw_only=True)
    step: str | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "hmm_likelihood"
    operator: ClassVar[str] = "hmm"
    of_sets: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.n_states is None and (self.params is not None or self.inputs is not None):
            msg = "params and inputs are of a new model: pass n_states, or leave them out for that of a recorded step."
            raise ValueError(msg)
        if self.n_states is not None and not {"z", "x", "codes"} & set(self.inputs or {}):
            msg = (
                "A new model needs its data: inputs={'z': 'obsm/X_pca', 'sequences': 'obs/donor'}, or 'x' for a matrix "
                "of genes, or 'codes'."
            )
            raise ValueError(msg)

    @property
    def brings(self) -> Brought | None:
        """The model that is fitted before training, trained along, and recorded."""
        if self.n_states is None:
            return None
        key = self.step or self.operator
        settings: dict[str, Any] = {"n_states": self.n_states, "emission": self.emission}
        if self.params is not None:
            settings["params"] = tuple((str(k), _nested(jnp.asarray(v).tolist())) for k, v in self.params.items())
        writes = {"states": f"obs/{key}_state", "posteriors": f"obsm/X_{key}", "fitted_model": f"uns/{key}"}
        return Brought(settings, self.inputs or {}, writes)

    def of_cells(self, cells: Cells):
        """Negative log-probability of each row given those before it."""
        operator, inputs, outputs = cells.run(self.step)
        values = operator.loss(inputs, outputs)
        if "spread" not in cells.facts:
            return values
        data = inputs.get("z", inputs.get("x"))
        return values - jnp.log(data.std(axis=0) / cells.facts["spread"] + SMALL).sum()


def _nested(value: Any) -> Any:
    return tuple(map(_nested, value)) if isinstance(value, list) else value


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
    if len(moves) == 0:
        return jnp.zeros(moves.shape[:2], moves.dtype), jnp.zeros(0, moves.dtype)
    return by_tree(moves, start) if jax.default_backend() == "gpu" else by_pieces(moves, start)


def by_tree(moves, start):
    """By products of neighbours, of pairs, of fours: few steps of many products each, for a GPU."""

    def joined(earlier, later):
        found = log_sum(earlier[..., :, :, None] + later[..., None, :, :], axis=-2)
        return found - _finite(found.max(axis=(-2, -1), keepdims=True))

    products = jax.lax.associative_scan(joined, moves)
    messages = normalised(log_sum(start[:, None] + products, axis=1))
    before = jnp.concatenate([start[None], messages[:-1]])
    return messages, log_sum(log_sum(before[:, :, None] + moves, axis=1), axis=1)


def by_pieces(moves, start):
    """By pieces side by side, for a CPU."""
    n, n_states = moves.shape[:2]
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
