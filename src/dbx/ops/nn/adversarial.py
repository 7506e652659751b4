"""Training against a critic: two optimisers in turn, in one compiled scan over each epoch."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from dbx.data.minibatches import Minibatches
from dbx.ops.nn.training import (
    Loss,
    Training,
    adam,
    at_home,
    check_finite,
    epoch_mean,
    schedule_values,
    shardings,
    take_rows,
)
from dbx.ops.operator import Progress, silent

CRITIC_OPTIMISER = optax.scale_by_adam(b1=0.5, b2=0.9)
"""With little momentum, as Gulrajani et al. train critics: what they minimise moves."""


class Compiled(NamedTuple):
    """What the compiled functions are specialised on."""

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
        As :func:`dbx.ops.nn.training.train` takes it; running statistics move with ``loss`` alone.
    data, how, seed, progress
        As there, but that no rows are kept apart for validation.
    critic
        Filter of the critic's variables; every other ``nnx.Param`` is moved by ``loss``.
    critic_steps
        Steps of the critic, each on the next minibatch, before a step of the rest.

    Returns
    -------
    Means over each epoch, arrays of shape (epochs,): ``loss``, what it follows, and ``critic_loss``.
    """
    rng = np.random.default_rng(seed)
    graphdef, judge, player, rest = nnx.split(model, critic, nnx.Param, ...)
    on = Compiled(graphdef, loss, critic_loss, adam(how.epsilon, how.weight_decay, how.clip_norm), critic_steps)
    everywhere, divided = shardings()
    carry, history = jax.device_put(_start(on, player, judge, rest), everywhere), []
    progress(0, how.epochs, data.placement)
    for epoch in range(how.epochs):
        plan = data.plan(np.arange(data.n_rows), how.batch_size, rng, multiple=len(jax.devices()))
        scalars = schedule_values(how, epoch + np.arange(len(plan.rows)) / len(plan.rows))
        numbers, sums = np.arange(len(plan.rows)) + epoch * len(plan.rows), []
        for part in data.epoch(plan):
            steps = (*jax.device_put((part.rows, part.weights), divided), numbers[part.steps])
            now = {name: x[part.steps] for name, x in scalars.items()}
            carry, followed = _run_steps(on, carry, part.data, steps, now, np.uint32(seed % 2**32))
            sums.append(followed)
            jax.block_until_ready(sums[-2:-1])  # the host reads one chunk ahead, no more
        history.append(epoch_mean(sums, plan.weights.sum()))
        check_finite(history[-1]["loss"] + history[-1]["critic_loss"], epoch, how)
        progress(epoch + 1, how.epochs, f"loss {history[-1]['loss']:.1f}")
    nnx.update(model, *(carry[:3] if everywhere is None else at_home(carry[:3])))
    return {name: np.array([h[name] for h in history], np.float32) for name in history[0]}


@partial(jax.jit, static_argnums=0)
def _start(on: Compiled, player, judge, rest):
    """Copies, since the steps overwrite them, and the moments of both optimisers."""
    copies = jax.tree.map(jnp.copy, (player, judge, rest))
    return *copies, on.optimiser.init(player), CRITIC_OPTIMISER.init(judge)


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
            losses, followed = loss(model, take_rows(data, rows), step_key, **scalars)
            sums = {name: jnp.vdot(x, weights) for name, x in {"loss": losses, **followed}.items()}
            return sums["loss"] / weights.sum(), (sums, nnx.split(model, nnx.Param, ...)[2])

        def criticise(state, now):
            judge, moments = state
            at, number = now
            objective = partial(value, on.critic_loss, player, at=at, step_key=jax.random.fold_in(step_key, number))
            gradient, (sums, _) = jax.grad(objective, has_aux=True)(judge)
            updates, moments = CRITIC_OPTIMISER.update(gradient, moments, judge)
            return (jax.tree.map(lambda p, u: p - rate * u, judge, updates), moments), sums["loss"]

        critic_state = (judge, judge_moments)
        (judge, judge_moments), lost = jax.lax.scan(
            criticise, critic_state, (judged, jnp.arange(1, on.critic_steps + 1))
        )
        objective = partial(value, on.loss, judge=judge, at=batch, step_key=step_key)
        gradient, (followed, rest) = jax.grad(objective, has_aux=True)(player)
        updates, moments = on.optimiser.update(gradient, moments, player)
        player = jax.tree.map(lambda p, u: p - rate * u, player, updates)
        return (player, judge, rest, moments, judge_moments), {**followed, "critic_loss": lost[-1]}

    judged = (jnp.stack(ahead, axis=1), jnp.stack(ahead_weights, axis=1))
    carry, followed = jax.lax.scan(step, carry, ((rows, weights), judged, numbers, scalars))
    return carry, jax.tree.map(jnp.sum, followed)
