"""The training engine: one compiled scan over each epoch, shared by every trained operator.

Where JAX has several devices each takes its share of every minibatch; the parameters are on all of them, and XLA adds
up what they find. The result is that of one device to rounding where the devices divide a minibatch evenly; otherwise
it has a few slots more, which have no weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dbx.data.minibatches import Minibatches, split_rows
from dbx.ops.operator import Progress, silent


class Loss(Protocol):
    """What is minimised; a module-level function or another hashable callable, so that it is compiled once."""

    def __call__(self, model, batch: dict[str, jax.Array], key, **scalars) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective of each row, an array of shape (size,), and what else to follow of each row, by name.

        ``key`` is None in validation; ``scalars`` are the current values of the schedules.
        """


@dataclass(frozen=True, kw_only=True)
class Training:
    """How to train: Adam on shuffled minibatches."""

    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    epsilon: float = 1e-8
    """Added to Adam's denominator."""
    weight_decay: float = 0.0
    """Ridge penalty that joins the gradient."""
    clip_norm: float | None = None
    """Largest norm of the gradient over all parameters."""
    schedules: Mapping[str, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)
    """Scalars handed to the loss, as functions of the epochs done; one named ``learning_rate`` multiplies the rate."""
    validation: float = 0.0
    """Share of the rows kept apart; the parameters of the best epoch on them are restored."""
    patience: int | None = None
    """Stop after so many epochs without a better validation loss."""


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
        See :class:`Loss`.
    data
        The rows to train on.
    how
        Optimiser, schedules and stopping.
    trainable
        Filter of the variables that are moved.
    held_out
        Rows that are held out, in place of a share drawn at random.
    judge
        What the model is worth to them, less being better, in place of the mean loss of their minibatches.
    seed
        Of shuffling, dropout and sampling; the same seed gives the same bits on a CPU.
    progress
        Called after each epoch, with its loss.

    Returns
    -------
    Means over each epoch, arrays of shape (epochs,): ``loss``, what the loss follows, and ``validation_loss`` (with the
    schedules at their end, so that epochs compare) where rows are kept apart.

    Raises
    ------
    ValueError
        There is one row only, and a share of the rows is to be held out.
    FloatingPointError
        If the loss stops being finite.
    """
    if how.validation and data.n_rows < 2:
        msg = "Training needs at least 2 cells, one of which is held out to judge it by; there is only 1."
        raise ValueError(msg)
    rng = np.random.default_rng(seed)
    if held_out is not None:
        rows = np.setdiff1d(np.arange(data.n_rows), held_out)
    else:
        rows, held_out = (
            split_rows(data.n_rows, how.validation, rng) if how.validation else (np.arange(data.n_rows), [])
        )
    graphdef, parameters, rest = nnx.split(model, trainable, ...)
    on = Compiled(graphdef, loss, adam(how.epsilon, how.weight_decay, how.clip_norm), trainable)
    everywhere, divided = shardings()
    carry, tree = jax.tree.flatten(jax.device_put(_start(on, parameters, rest), everywhere))
    on, n_devices = replace(on, tree=tree), len(jax.devices())
    history, best = [], Best(how.patience)
    validation = _Validation(data, held_out, how) if len(held_out) and judge is None else None

    def variables():
        return jax.tree.unflatten(tree, carry)[:2]

    def judged() -> list:
        if validation is not None:
            return validation.start(on, carry)
        return [judge(nnx.merge(graphdef, *variables(), copy=True)) * len(held_out)]

    if len(held_out):  # what is trained further may have been better than it becomes
        best.update(_total(judged()) / len(held_out), variables)
    progress(0, how.epochs, data.placement)
    for epoch in range(how.epochs):
        plan = data.plan(rows, how.batch_size, rng, multiple=n_devices)
        scalars = schedule_values(how, epoch + np.arange(len(plan.rows)) / len(plan.rows))
        numbers, sums = np.arange(len(plan.rows)) + epoch * len(plan.rows), []
        for part in data.epoch(plan):
            where = part.rows, part.weights
            steps = (*(where if divided is None else jax.device_put(where, divided)), numbers[part.steps])
            now = {name: x[part.steps] for name, x in scalars.items()}
            carry, followed = _run_steps(on, carry, part.data, steps, now, np.uint32(seed % 2**32))
            sums.append(followed)
            jax.block_until_ready(sums[-2:-1])  # the host reads one chunk ahead, no more
        part = None  # frees the last chunk of streamed data
        apart = judged() if len(held_out) else []  # begins while the epoch is being computed
        history.append(epoch_mean(sums, plan.weights.sum()))
        check_finite(history[-1]["loss"], epoch, how)
        if len(held_out):
            history[-1]["validation_loss"] = _total(apart) / len(held_out)
            if best.update(history[-1]["validation_loss"], variables):
                break
        progress(epoch + 1, how.epochs, f"loss {history[-1]['loss']:.1f}")
    nnx.update(model, *(best.values or (variables() if everywhere is None else at_home(variables()))))
    return {name: np.array([h[name] for h in history], np.float32) for name in history[0]}


class Best:
    """The parameters of the best epoch so far, and whether to stop."""

    def __init__(self, patience: int | None):
        self.patience, self.value, self.values, self.waited = patience, np.inf, None, 0

    def update(self, value: float, values: Callable[[], Any]) -> bool:
        """Take note of an epoch, and of its ``values()`` if it is the best; True where patience has run out."""
        if value < self.value:
            self.value, self.values, self.waited = value, at_home(values()), 0
        else:
            self.waited += 1
        return self.patience is not None and self.waited >= self.patience


@lru_cache
def adam(epsilon: float, weight_decay: float, clip_norm: float | None) -> optax.GradientTransformation:
    """Adam without its learning rate; cached, since compiled functions are told apart by it."""
    parts = [optax.add_decayed_weights(weight_decay)] if weight_decay else []
    parts += [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    return optax.chain(*parts, optax.scale_by_adam(eps=epsilon))


@dataclass(frozen=True)
class Compiled:
    """What the compiled functions are specialised on; every call of them asks for its hash, which is kept."""

    graphdef: nnx.GraphDef
    loss: Loss
    optimiser: optax.GradientTransformation
    trainable: Any
    tree: Any = None
    """How parameters, everything else and moments are put together: they travel as bare arrays, which is faster."""

    @cached_property
    def _hash(self) -> int:
        return hash((self.graphdef, self.loss, self.optimiser, self.trainable, self.tree))

    def __hash__(self) -> int:
        return self._hash


def shardings() -> tuple[NamedSharding | None, NamedSharding | None]:
    """How parameters lie on the devices, and rows of minibatches; None for one device."""
    if len(jax.devices()) == 1:
        return None, None
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(None, "rows"))


def at_home(values):
    """Copies on the first device, which outlive the steps and can be changed in place."""
    return jax.tree.map(jnp.asarray, jax.device_get(values))


@partial(jax.jit, static_argnums=0)
def _start(on: Compiled, parameters, rest):
    """Parameters, everything else, and the optimiser's moments; copies, since the steps overwrite them."""
    return *jax.tree.map(jnp.copy, (parameters, rest)), on.optimiser.init(parameters)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _run_steps(on: Compiled, carry, data, steps, scalars, seed):
    """Gradient steps over consecutive minibatches; what the loss follows comes back summed over rows."""
    key, carry = jax.random.key(seed), jax.tree.unflatten(on.tree, carry)

    def step(carry, now):
        (parameters, rest, moments), ((rows, weights, number), scalars) = carry, now
        scalars = dict(scalars)
        rate = scalars.pop("learning_rate")

        def objective(parameters):
            model = nnx.merge(on.graphdef, parameters, rest, copy=True)
            losses, followed = on.loss(model, take_rows(data, rows), jax.random.fold_in(key, number), **scalars)
            followed = {name: jnp.vdot(x, weights) for name, x in {"loss": losses, **followed}.items()}
            return followed["loss"] / weights.sum(), (nnx.split(model, on.trainable, ...)[2], followed)

        gradient, (rest, followed) = jax.grad(objective, has_aux=True)(parameters)
        updates, moments = on.optimiser.update(gradient, moments, parameters)
        parameters = jax.tree.map(lambda p, u: p - rate * u, parameters, updates)
        return (parameters, rest, moments), followed

    carry, followed = jax.lax.scan(step, carry, (steps, scalars))
    return jax.tree.leaves(carry), jax.tree.map(jnp.sum, followed)


@partial(jax.jit, static_argnums=0)
def _evaluate(on: Compiled, carry, data, steps, scalars):
    """The loss summed over rows, without a key and with the variables as they are."""
    variables = jax.tree.unflatten(on.tree, carry)[:2]

    def step(total, now):
        rows, weights = now
        losses, _ = on.loss(nnx.merge(on.graphdef, *variables, copy=True), take_rows(data, rows), None, **scalars)
        return total + jnp.vdot(losses, weights), None

    return jax.lax.scan(step, 0.0, steps)[0]


def take_rows(data, rows):
    """A minibatch; counts come in narrow integers and leave as floats."""
    batch = {name: x[rows] for name, x in data.items()}
    return {name: x.astype(jnp.float32) if x.dtype in (jnp.uint8, jnp.uint16) else x for name, x in batch.items()}


class _Validation:
    """The loss of the held-out rows, with the schedules at their end."""

    def __init__(self, data: Minibatches, rows: np.ndarray, how: Training):
        self.data, self.plan = data, data.plan(rows, how.batch_size)
        end = np.array([float(how.epochs)])
        self.scalars = {name: x[0] for name, x in schedule_values(how, end).items() if name != "learning_rate"}

    def start(self, on: Compiled, carry) -> list:
        """Sums over the rows of each chunk, which may still be on their way."""
        sums = []
        for part in self.data.epoch(self.plan):
            sums.append(_evaluate(on, carry, part.data, (part.rows, part.weights), self.scalars))
            jax.block_until_ready(sums[-2:-1])
        return sums


def _total(sums: list) -> float:
    return float(sum(jax.device_get(sums)))


def schedule_values(how: Training, epochs_done: np.ndarray) -> dict[str, np.ndarray]:
    """The value of each schedule at each step."""
    schedules = {"learning_rate": np.ones_like, **how.schedules}
    scalars = {name: np.broadcast_to(np.float32(f(epochs_done)), epochs_done.shape) for name, f in schedules.items()}
    return {**scalars, "learning_rate": scalars["learning_rate"] * np.float32(how.learning_rate)}


def epoch_mean(sums: list[dict], n_rows: int) -> dict[str, float]:
    """Means over an epoch's rows of what was summed in parts of it."""
    sums = jax.device_get(sums)
    return {name: float(sum(part[name] for part in sums)) / n_rows for name in sums[0]}


def check_finite(loss: float, epoch: int, how: Training) -> None:
    """Stop a training that has diverged, and say what to try."""
    if not np.isfinite(loss):
        msg = (
            f"Training diverged: the loss is {loss} in epoch {epoch + 1} of {how.epochs}. Try a smaller learning rate "
            f"(it is {how.learning_rate:g}) or fewer layers, and look for cells or genes with extreme values."
        )
        raise FloatingPointError(msg)
