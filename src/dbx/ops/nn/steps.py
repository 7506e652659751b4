"""Parts of a compiled training step: a minibatch, the loss over its rows, a step of Adam."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax


class Loss(Protocol):
    """The loss; a module-level function or another hashable callable, so that it is compiled once."""

    # *args, which no loss takes, with **scalars lets type checkers accept the scalars of any loss
    def __call__(
        self, model, batch: dict[str, jax.Array], key, /, *args: Any, **scalars: Any
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective of each row, an array of shape (size,), and further terms to record of each row, by name.

        ``key`` is None in validation; ``scalars`` are the current values of the schedules.
        """


def take_rows(data, rows):
    """A minibatch; counts are stored as narrow integers and returned as floats."""
    batch = {name: x[rows] for name, x in data.items()}
    return {name: x.astype(jnp.float32) if x.dtype in (jnp.uint8, jnp.uint16) else x for name, x in batch.items()}


def weighted_mean(loss: Loss, model, batch: dict[str, jax.Array], weights, key, scalars):
    """The objective of a minibatch, and weighted sums over its rows of the objective and the recorded terms."""
    losses, followed = loss(model, batch, key, **scalars)
    sums = {name: jnp.vdot(x, weights) for name, x in {"loss": losses, **followed}.items()}
    return sums["loss"] / weights.sum(), sums


@lru_cache
def adam(epsilon: float, weight_decay: float, clip_norm: float | None) -> optax.GradientTransformation:
    """Adam without its learning rate; cached, since it is part of the key of compiled functions."""
    parts = [optax.add_decayed_weights(weight_decay)] if weight_decay else []
    parts += [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    return optax.chain(*parts, optax.scale_by_adam(eps=epsilon))


def moments_of(optimiser: optax.GradientTransformation, parameters):
    """Adam's moments before the first step, zeros on the host: compiling them would take longer."""
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), jax.eval_shape(optimiser.init, parameters))


def moved(optimiser: optax.GradientTransformation, rate, gradient, moments, parameters):
    """Parameters and moments after a step."""
    updates, moments = optimiser.update(gradient, moments, parameters)
    return jax.tree.map(lambda p, u: p - rate * u, parameters, updates), moments
