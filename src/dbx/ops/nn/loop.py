"""The training loop: epochs of shuffled minibatches, their history, and the best epoch for held-out rows.

The caller defines a step: :mod:`dbx.ops.nn.training` follows one gradient, :mod:`dbx.ops.nn.adversarial` two in turn.
If JAX has several devices, each gets a part of every minibatch; the parameters are on all devices, and XLA sums the
gradients. If the devices divide a minibatch evenly, the result is that of one device up to rounding; otherwise the
minibatch is padded with rows of weight zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dbx.data.minibatches import Minibatches, Plan
from dbx.ops.operator import Progress


@dataclass(frozen=True, kw_only=True)
class Training:
    """How to train: Adam on shuffled minibatches."""

    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    epsilon: float = 1e-8
    """Added to Adam's denominator."""
    weight_decay: float = 0.0
    """Ridge penalty, added to the gradient."""
    clip_norm: float | None = None
    """Maximum norm of the gradient over all parameters."""
    averaging: float = 0.0
    """Decay at each step of a mean of the parameters over steps, which is judged and returned; 0 returns the last."""
    schedules: Mapping[str, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)
    """Scalars passed to the loss, as functions of the epochs done; one named ``learning_rate`` multiplies the rate."""
    validation: float = 0.0
    """Fraction of rows held out; the parameters of the best epoch on them are restored."""
    patience: int | None = None
    """Stop after this many epochs without a better validation loss."""


class RunSteps(Protocol):
    """Compiled steps over consecutive minibatches."""

    def __call__(self, carry, data: dict, steps: tuple, scalars: dict, seed: np.uint32) -> tuple[Any, dict]:
        """The new carry, and sums over the rows of the recorded terms, by name.

        ``steps`` are the rows and weights of each minibatch, arrays of shape (n_steps, size), and its number;
        ``scalars`` the values of the schedules, arrays of shape (n_steps,).
        """


class HeldOut:
    """The best epoch on held-out rows, and when to stop; ``kept`` is its number, 0 for the state before the first.

    ``start(carry)`` returns sums of their losses, possibly still being computed; ``variables(carry)`` are the variables
    to keep of the best epoch.
    """

    def __init__(
        self,
        n_rows: int,
        patience: int | None,
        start: Callable[[Any], list],
        variables: Callable[[Any], Any],
    ):
        self.n_rows, self.patience, self.start, self.variables = n_rows, patience, start, variables
        self.value, self.values, self.waited = np.inf, None, 0
        self.n_judged = self.kept = 0

    def finish(self, sums: list, carry) -> tuple[float, bool]:
        """The mean loss, and whether patience has run out; copies the variables of the best epoch so far."""
        value = float(sum(jax.device_get(sums))) / self.n_rows
        if value < self.value:
            self.value, self.values, self.waited = value, at_home(self.variables(carry)), 0
            self.kept = self.n_judged
        else:
            self.waited += 1
        self.n_judged += 1
        return value, self.patience is not None and self.waited >= self.patience


def run_epochs(
    run: RunSteps,
    carry,
    data: Minibatches,
    how: Training,
    *,
    rows: np.ndarray,
    rng: np.random.Generator,
    seed: int,
    progress: Progress,
    held_out: HeldOut | None = None,
    finite: tuple[str, ...] = ("loss",),
) -> tuple[Any, dict[str, np.ndarray]]:
    """Steps over shuffled minibatches of ``rows``, epoch by epoch.

    Parameters
    ----------
    run
        See :class:`RunSteps`.
    carry
        State of the steps: parameters, other variables, moments.
    data, how, seed, progress
        As in :func:`dbx.ops.nn.training.train`.
    rows
        Rows to train on.
    rng
        Generator for shuffling.
    held_out
        Evaluates each epoch.
    finite
        Names of the means of an epoch that must be finite; otherwise training has diverged.

    Returns
    -------
    The last carry, and the means over each epoch, arrays of shape (epochs,).
    """
    history = []
    progress(0, how.epochs, data.placement)
    for epoch in range(how.epochs):
        plan = data.plan(rows, how.batch_size, rng, multiple=len(jax.devices()))
        carry, sums = _run_epoch(run, carry, data, plan, epoch, how, seed)
        judged = [] if held_out is None else held_out.start(carry)  # starts while the epoch is being computed
        history.append(_epoch_mean(sums, plan.weights.sum()))
        _check_finite(sum(history[-1][name] for name in finite), epoch, how)
        if held_out is not None:
            history[-1]["validation_loss"], stop = held_out.finish(judged, carry)
            if stop:
                break
        progress(epoch + 1, how.epochs, f"loss {history[-1]['loss']:.1f}")
    return carry, {name: np.array([h[name] for h in history], np.float32) for name in history[0]}


def _run_epoch(run: RunSteps, carry, data: Minibatches, plan: Plan, epoch: int, how: Training, seed: int):
    """The carry after one epoch, and the sums of each chunk of its minibatches."""
    divided, n_steps, sums = shardings()[1], len(plan.rows), []
    scalars = schedule_values(how, epoch + np.arange(n_steps) / n_steps)
    numbers = np.arange(n_steps) + epoch * n_steps
    for part in data.epoch(plan):
        where = part.rows, part.weights
        steps = (*(where if divided is None else jax.device_put(where, divided)), numbers[part.steps])
        now = {name: x[part.steps] for name, x in scalars.items()}
        carry, followed = run(carry, part.data, steps, now, np.uint32(seed % 2**32))
        sums.append(followed)
        jax.block_until_ready(sums[-2:-1])  # the host reads one chunk ahead, no more
    return carry, sums


def shardings() -> tuple[NamedSharding | None, NamedSharding | None]:
    """Sharding of parameters and of rows of minibatches over devices; None for one device."""
    if len(jax.devices()) == 1:
        return None, None
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(None, "rows"))


def at_home(values):
    """Copies on the first device, which outlast the steps and can be modified in place."""
    return jax.device_put(jax.tree.map(np.array, jax.device_get(values)))


def schedule_values(how: Training, epochs_done: np.ndarray) -> dict[str, np.ndarray]:
    """The value of each schedule at each step."""
    schedules: dict[str, Callable[[np.ndarray], np.ndarray]] = {"learning_rate": np.ones_like, **how.schedules}
    scalars = {name: np.broadcast_to(np.float32(f(epochs_done)), epochs_done.shape) for name, f in schedules.items()}
    return {**scalars, "learning_rate": scalars["learning_rate"] * np.float32(how.learning_rate)}


def _epoch_mean(sums: list[dict], n_rows: int) -> dict[str, float]:
    """Means over an epoch's rows from the sums of its parts."""
    sums = jax.device_get(sums)
    return {name: float(sum(part[name] for part in sums)) / n_rows for name in sums[0]}


def _check_finite(loss: float, epoch: int, how: Training) -> None:
    """Stop a training that has diverged, and suggest what to try."""
    if not np.isfinite(loss):
        msg = (
            f"Training diverged: the loss is {loss} in epoch {epoch + 1} of {how.epochs}. Try a smaller learning rate "
            f"(it is {how.learning_rate:g}) or fewer layers, and look for cells or genes with extreme values."
        )
        raise FloatingPointError(msg)
