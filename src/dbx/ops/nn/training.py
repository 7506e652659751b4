"""Training along one gradient, shared by every trained operator: one compiled scan over each epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from dbx.data.minibatches import Minibatches, split_rows
from dbx.ops.nn.loop import HeldOut, Training, at_home, run_epochs, schedule_values, shardings
from dbx.ops.nn.steps import Loss, adam, moments_of, moved, take_rows, weighted_mean
from dbx.ops.operator import Progress, silent


def train(
    model: nnx.Module,
    loss: Loss,
    data: Minibatches,
    how: Training,
    *,
    trainable=nnx.Param,
    held_out: np.ndarray | None = None,
    judge: Callable[[nnx.Module], float] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, np.ndarray]:
    """Minimise a loss over the parameters of a model, in place.

    Parameters
    ----------
    model
        Any module; variables other than ``trainable`` that the loss changes (running statistics) are carried along.
    loss
        See :class:`dbx.ops.nn.steps.Loss`.
    data
        The rows to train on.
    how
        Optimiser, schedules and stopping.
    trainable
        Filter of the variables that are trained.
    held_out
        Rows that are held out, instead of a fraction drawn at random.
    judge
        Mean loss of the held-out rows for a model, instead of the mean over their minibatches.
    seed
        Seed of shuffling, dropout and sampling; the same seed gives identical results on a CPU.
    progress
        Called after each epoch, with its loss.

    Returns
    -------
    Means over each epoch, arrays of shape (epochs,): ``loss``, its recorded terms, and ``validation_loss`` (with the
    final values of the schedules, so that epochs are comparable) if rows are held out. Then also ``kept``, the epoch
    whose parameters the model has, of shape (1,): 0 where none was better than before training.

    Raises
    ------
    ValueError
        There is only one row, and a fraction of the rows is to be held out.
    FloatingPointError
        The loss is no longer finite.
    """
    if how.validation and data.n_rows < 2:
        msg = "Training needs at least 2 cells, one of which is held out for validation; got 1."
        raise ValueError(msg)
    rng = np.random.default_rng(seed)
    if held_out is not None:
        rows = np.setdiff1d(np.arange(data.n_rows), held_out)
    elif how.validation:
        rows, held_out = split_rows(data.n_rows, how.validation, rng)
    else:
        rows, held_out = np.arange(data.n_rows), np.empty(0, int)
    graphdef, *states = nnx.split(model, trainable, ...)
    parameters, rest = states
    on = Compiled(graphdef, loss, adam(how.epsilon, how.weight_decay, how.clip_norm), trainable, how.averaging)
    everywhere, _ = shardings()
    copies = jax.tree.map(np.array, (parameters, rest))  # the steps overwrite them
    means = jax.tree.map(np.array, parameters) if how.averaging else None
    carry, tree = jax.tree.flatten(jax.device_put((*copies, moments_of(on.optimiser, parameters), means), everywhere))
    on = replace(on, tree=tree)

    def variables(carry):
        return _kept(on, carry)

    best = None
    if len(held_out):
        if judge is None:
            start = partial(_Validation(data, held_out, how).start, on)
        else:
            start = partial(_judged, judge, on, len(held_out))
        best = HeldOut(len(held_out), how.patience, start, variables)
        best.finish(best.start(carry), carry)  # further training may only make a model worse
    carry, history = run_epochs(
        partial(_run_steps, on), carry, data, how, rows=rows, rng=rng, seed=seed, progress=progress, held_out=best
    )
    if best is not None and best.values is not None:
        nnx.update(model, *best.values)
    else:
        nnx.update(model, *(variables(carry) if everywhere is None else at_home(variables(carry))))
    return history if best is None else {**history, "kept": np.array([best.kept], np.int32)}


@dataclass(frozen=True)
class Compiled:
    """Static arguments of the compiled functions; the hash is cached, since every call needs it."""

    graphdef: nnx.GraphDef
    loss: Loss
    optimiser: optax.GradientTransformation
    trainable: Any
    averaging: float = 0.0
    tree: Any = None
    """Tree structure of parameters, other variables, moments and means, which are passed as flat arrays for speed."""

    @cached_property
    def _hash(self) -> int:
        return hash((self.graphdef, self.loss, self.optimiser, self.trainable, self.averaging, self.tree))

    def __hash__(self) -> int:
        return self._hash


def _kept(on: Compiled, carry) -> tuple[Any, Any]:
    """Parameters, or their means over steps, and other variables."""
    parameters, rest, _, means = jax.tree.unflatten(on.tree, carry)
    return means if on.averaging else parameters, rest


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _run_steps(on: Compiled, carry, data, steps, scalars, seed):
    """Gradient steps over consecutive minibatches; the recorded terms are returned as sums over rows."""
    key, carry = jax.random.key(seed), jax.tree.unflatten(on.tree, carry)

    def step(carry, now):
        (parameters, rest, moments, means), ((rows, weights, number), scalars) = carry, now
        scalars = dict(scalars)
        rate, step_key = scalars.pop("learning_rate"), jax.random.fold_in(key, number)

        def objective(parameters):
            model = nnx.merge(on.graphdef, parameters, rest, copy=True)
            mean, followed = weighted_mean(on.loss, model, take_rows(data, rows), weights, step_key, scalars)
            return mean, (nnx.split(model, on.trainable, ...)[-1], followed)

        gradient, (rest, followed) = jax.grad(objective, has_aux=True)(parameters)
        parameters, moments = moved(on.optimiser, rate, gradient, moments, parameters)
        if on.averaging:
            decay = jnp.minimum(on.averaging, (1 + number) / (10 + number))  # the start is forgotten first
            means = jax.tree.map(lambda mean, now: decay * mean + (1 - decay) * now, means, parameters)
        return (parameters, rest, moments, means), followed

    carry, followed = jax.lax.scan(step, carry, (steps, scalars))
    return jax.tree.leaves(carry), jax.tree.map(jnp.sum, followed)


@partial(jax.jit, static_argnums=0)
def _evaluate(on: Compiled, carry, data, steps, scalars):
    """The loss summed over rows, without a key and without updates of variables."""
    variables = _kept(on, carry)

    def step(total, now):
        rows, weights = now
        losses, _ = on.loss(nnx.merge(on.graphdef, *variables, copy=True), take_rows(data, rows), None, **scalars)
        return total + jnp.vdot(losses, weights), None

    return jax.lax.scan(step, 0.0, steps)[0]


def _judged(judge: Callable[[nnx.Module], float], on: Compiled, n_rows: int, carry) -> list[float]:
    """The judge's mean loss of the held-out rows, as their sum."""
    variables = _kept(on, carry)
    return [judge(nnx.merge(on.graphdef, *variables, copy=True)) * n_rows]


class _Validation:
    """The loss of the held-out rows, with the final values of the schedules."""

    def __init__(self, data: Minibatches, rows: np.ndarray, how: Training):
        self.data, self.plan = data, data.plan(rows, how.batch_size)
        end = np.array([float(how.epochs)])
        self.scalars = {name: x[0] for name, x in schedule_values(how, end).items() if name != "learning_rate"}

    def start(self, on: Compiled, carry) -> list:
        """Sums over the rows of each chunk, possibly still being computed."""
        sums = []
        for part in self.data.epoch(self.plan):
            sums.append(_evaluate(on, carry, part.data, (part.rows, part.weights), self.scalars))
            jax.block_until_ready(sums[-2:-1])
        return sums
