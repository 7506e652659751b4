"""Training of a graph autoencoder on hidden entries, stopped by others that are held out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from dbx.ops.nn.steps import adam, moments_of, moved
from dbx.ops.operator import Progress
from dbx.ops.space.graph_autoencoder import GraphAutoencoder
from dbx.ops.space.patches import Patch

LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM = 3e-4, 1e-4, 5.0
"""STAGATE's, with a smaller step: the start is near the optimum."""
HELD_OUT = 0.1
"""Fraction of entries that the encoder does not see and that decide when to stop."""
HIDDEN = 0.1
"""Fraction of the other entries that the encoder does not see in a step and has to predict."""
EPOCHS_AT_ONCE = 10
"""Epochs of a single part between two looks at the held-out entries."""
PATIENCE = 3
"""Looks without a better value after which training stops."""
ENOUGH = 1e-3
"""Relative improvement that counts."""


class History(NamedTuple):
    """Mean squared error of the entries trained on and held out, by epoch."""

    epochs: np.ndarray
    trained: np.ndarray
    held_out: np.ndarray


@dataclass(frozen=True)
class _Fixed:
    graphdef: Any
    optimiser: optax.GradientTransformation


def train_autoencoder(
    model: GraphAutoencoder,
    x: np.ndarray,
    slices: np.ndarray,
    parts: list[Patch],
    *,
    max_epochs: int,
    seed: int,
    progress: Progress,
) -> History:
    """Minimise the squared error in place; the parameters with the least error of held-out entries are kept.

    ``x`` is centred expression, an array of shape (n_cells, n_genes), and ``slices`` are numbers of the cells' slices.
    """
    rng = np.random.default_rng(seed)
    held = rng.random(x.shape, np.float32) < HELD_OUT
    graphdef, parameters = nnx.split(model, nnx.Param)
    fixed = _Fixed(graphdef, adam(1e-8, WEIGHT_DECAY, CLIP_NORM))
    parameters = jax.tree.map(np.array, parameters)
    carry = jax.device_put((parameters, moments_of(fixed.optimiser, parameters)))
    single = _batch(x, held, slices, parts[0]) if len(parts) == 1 else None
    best, kept, waited, rows = np.inf, parameters, 0, []
    step = EPOCHS_AT_ONCE if single is not None else 1
    for epoch in range(0, max_epochs, step):
        before = jax.device_get(carry[0])
        if single is not None:
            carry, errors = _steps(fixed, carry, single, min(step, max_epochs - epoch), epoch, seed)
            now = np.asarray(errors)[0]
        else:
            sums = np.zeros(4)
            for i in rng.permutation(len(parts)):
                carry, errors = _steps(fixed, carry, _batch(x, held, slices, parts[i]), 1, epoch * len(parts) + i, seed)
                sums += np.asarray(errors)[0]
            now = sums
        trained, held_out = now[0] / max(now[1], 1), now[2] / max(now[3], 1)
        if not np.isfinite(trained + held_out):
            msg = f"Training diverged in epoch {epoch + 1}: look for cells or genes with extreme values."
            raise FloatingPointError(msg)
        rows.append((epoch, trained, held_out))
        progress(epoch + step, max_epochs, f"held-out error {held_out:.4f}")
        if held_out < best * (1 - ENOUGH):
            best, kept, waited = held_out, before, 0
        else:
            waited += 1
            if waited >= PATIENCE:
                break
    nnx.update(model, jax.device_put(kept))
    return History(*np.array(rows).T)


def _batch(x: np.ndarray, held: np.ndarray, slices: np.ndarray, part: Patch) -> dict[str, Any]:
    return jax.device_put(
        {
            "x": x[part.cells],
            "held": held[part.cells],
            "slices": slices[part.cells[: len(part.weights)]].astype(np.int32),
            "indices": part.indices,
            "mask": part.mask,
            "weights": part.weights,
        }
    )


@partial(jax.jit, static_argnums=(0, 3), donate_argnums=1)
def _steps(fixed: _Fixed, carry, batch, n_steps: int, first, seed):
    """Steps on one part; sums of squared errors and numbers of entries before each, trained on and held out."""

    def step(carry, number):
        parameters, moments = carry
        key = jax.random.fold_in(jax.random.key(seed), number)
        (_, errors), gradient = jax.value_and_grad(partial(_error, fixed.graphdef, batch, key), has_aux=True)(
            parameters
        )
        parameters, moments = moved(fixed.optimiser, LEARNING_RATE, gradient, moments, parameters)
        return (parameters, moments), errors

    return jax.lax.scan(step, carry, first + jnp.arange(n_steps))


def _error(graphdef, batch, key, parameters):
    model = nnx.merge(graphdef, parameters)
    x, held, weights = batch["x"], batch["held"], batch["weights"][:, None]
    hidden = jax.random.bernoulli(key, HIDDEN, x.shape) & ~held
    code, attention = model.encode(jnp.where(held | hidden, 0, x), batch["indices"], batch["mask"])
    n_own = len(weights)
    found = model.decode(code, attention[:n_own], batch["indices"][:n_own], batch["slices"])
    square = (found - x[:n_own]) ** 2
    seen = weights * hidden[:n_own]
    unseen = weights * held[:n_own]
    sums = jnp.stack([(square * seen).sum(), seen.sum(), (square * unseen).sum(), unseen.sum()])
    return sums[0] / jnp.maximum(sums[1], 1), sums
