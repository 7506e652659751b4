"""Training against a critic: two optimisers alternate, in one compiled scan over each epoch."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from dbx.data.minibatches import Minibatches
from dbx.ops.nn.loop import Training, at_home, run_epochs, shardings
from dbx.ops.nn.steps import Loss, adam, moments_of, moved, take_rows, weighted_mean
from dbx.ops.operator import Progress, silent

CRITIC_OPTIMISER = optax.scale_by_adam(b1=0.5, b2=0.9)
"""Low momentum, as in Gulrajani et al., since the critic's objective changes with the model."""


class Compiled(NamedTuple):
    """Static arguments of the compiled functions."""

    graphdef: nnx.GraphDef
    loss: Loss
    critic_loss: Loss
    optimiser: optax.GradientTransformation
    critic_steps: int


def train_against(
    model: nnx.Module,
    loss: Loss,
    critic_loss: Loss,
    data: Minibatches,
    how: Training,
    *,
    critic: Any,
    critic_steps: int = 5,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, np.ndarray]:
    """Minimise ``loss`` over the parameters of a model, and before each step ``critic_loss`` over those of its critic.

    Parameters
    ----------
    model
        A module that holds the critic.
    loss, critic_loss
        As in :func:`dbx.ops.nn.training.train`; only ``loss`` updates running statistics.
    data, how, seed, progress
        As there, but no rows can be held out: the critic changes ``loss``, so that epochs cannot be compared and none
        is the best.
    critic
        Filter of the critic's variables; every other ``nnx.Param`` is trained by ``loss``.
    critic_steps
        Steps of the critic, each on the next minibatch, before a step of the rest.

    Returns
    -------
    Means over each epoch, arrays of shape (epochs,): ``loss``, its recorded terms, and ``critic_loss``.
    """
    if how.validation or how.patience is not None:
        msg = "Training against a critic has no validation: use Training(validation=0, patience=None)."
        raise ValueError(msg)
    graphdef, *states = nnx.split(model, critic, nnx.Param, ...)
    judge, player, rest = states
    on = Compiled(graphdef, loss, critic_loss, adam(how.epsilon, how.weight_decay, how.clip_norm), critic_steps)
    everywhere, _ = shardings()
    copies = jax.tree.map(np.array, (player, judge, rest))  # the steps overwrite them
    moments = moments_of(on.optimiser, player), moments_of(CRITIC_OPTIMISER, judge)
    carry, history = run_epochs(
        partial(_run_steps, on),
        jax.device_put((*copies, *moments), everywhere),
        data,
        how,
        rows=np.arange(data.n_rows),
        rng=np.random.default_rng(seed),
        seed=seed,
        progress=progress,
        finite=("loss", "critic_loss"),
    )
    nnx.update(model, *(carry[:3] if everywhere is None else at_home(carry[:3])))
    return history


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _run_steps(on: Compiled, carry, data, steps, scalars, seed):
    """Steps over consecutive minibatches; minibatch i is preceded by critic steps on i + 1, i + 2, ..., in a circle."""
    key = jax.random.key(seed)
    rows, weights, numbers = steps
    ahead = [jnp.roll(rows, -i - 1, axis=0) for i in range(on.critic_steps)]
    ahead_weights = [jnp.roll(weights, -i - 1, axis=0) for i in range(on.critic_steps)]

    def step(carry, now):
        (player, judge, rest, moments, judge_moments), (batch, judged, number, scalars) = carry, now
        scalars = dict(scalars)
        rate, step_key = scalars.pop("learning_rate"), jax.random.fold_in(key, number)

        def value(loss, player, judge, at, step_key):
            rows, weights = at
            model = nnx.merge(on.graphdef, player, judge, rest, copy=True)
            mean, sums = weighted_mean(loss, model, take_rows(data, rows), weights, step_key, scalars)
            return mean, (sums, nnx.split(model, nnx.Param, ...)[-1])

        def criticise(state, now):
            judge, moments = state
            at, number = now
            objective = partial(value, on.critic_loss, player, at=at, step_key=jax.random.fold_in(step_key, number))
            gradient, (sums, _) = jax.grad(objective, has_aux=True)(judge)
            return moved(CRITIC_OPTIMISER, rate, gradient, moments, judge), sums["loss"]

        critic_state = (judge, judge_moments)
        (judge, judge_moments), lost = jax.lax.scan(
            criticise, critic_state, (judged, jnp.arange(1, on.critic_steps + 1))
        )
        objective = partial(value, on.loss, judge=judge, at=batch, step_key=step_key)
        gradient, (followed, rest) = jax.grad(objective, has_aux=True)(player)
        player, moments = moved(on.optimiser, rate, gradient, moments, player)
        return (player, judge, rest, moments, judge_moments), {**followed, "critic_loss": lost[-1]}

    judged = (jnp.stack(ahead, axis=1), jnp.stack(ahead_weights, axis=1))
    carry, followed = jax.lax.scan(step, carry, ((rows, weights), judged, numbers, scalars))
    return carry, jax.tree.map(jnp.sum, followed)
