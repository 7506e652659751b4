"""What ``dbx.optimize`` trains when a projection learns labels, in plain JAX: one jitted scan over each epoch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

BATCH, RATE, DECAY, DROPOUT, STEP = 128, 1e-3, 1e-4, 0.3, 10.0


class Fixed(NamedTuple):
    """What does not move, on the device."""

    x: jax.Array
    codes: jax.Array
    mean: jax.Array
    components: jax.Array
    spread: jax.Array
    scale: jax.Array
    centre: jax.Array
    """Mean and spread of the coordinates, each of shape (n_dims,), as rows."""
    weight: jax.Array
    anchor: jax.Array


def losses(free, fixed: Fixed, x, codes):
    """Weighted cross-entropy of each cell."""
    moved, (matrix, bias) = free
    z = (x - fixed.mean) @ (fixed.components + fixed.spread * fixed.scale * moved)
    logits = (z - fixed.centre[0]) / fixed.centre[1] @ matrix + bias
    of_label = jnp.take_along_axis(jax.nn.log_softmax(logits), codes[:, None], axis=1)[:, 0]
    return -fixed.weight[codes] * of_label


def objective(free, fixed: Fixed, rows, key):
    """Mean over a minibatch, with values hidden and the distance penalised."""
    kept = jax.random.bernoulli(key, 1 - DROPOUT, (len(rows), fixed.x.shape[1]))
    x = jnp.where(kept, fixed.mean + (fixed.x[rows] - fixed.mean) / (1 - DROPOUT), fixed.mean)
    return losses(free, fixed, x, fixed.codes[rows]).mean() + fixed.anchor * fixed.scale**2 * (free[0] ** 2).sum()


@partial(jax.jit, donate_argnums=0)
def epoch(carry, fixed: Fixed, rows, key):
    """Adam over minibatches; ``rows`` of shape (n_steps, size)."""

    def step(carry, now):
        (free, first, second, done), (part, number) = carry, now
        value, slope = jax.value_and_grad(objective)(free, fixed, part, jax.random.fold_in(key, number))
        slope = jax.tree.map(lambda g, p: g + DECAY * p, slope, free)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, slope)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, slope)
        done += 1
        size = jnp.sqrt(1 - 0.999**done) / (1 - 0.9**done)
        free = jax.tree.map(lambda p, m, v: p - RATE * size * m / (jnp.sqrt(v) + 1e-8), free, first, second)
        return (free, first, second, done), value

    carry, values = jax.lax.scan(step, carry, (rows, jnp.arange(len(rows))))
    return carry, values.mean()


@jax.jit
def validation(free, fixed: Fixed, rows):
    """Sum over held-out cells, in minibatches."""

    def step(total, part):
        return total + losses(free, fixed, fixed.x[part], fixed.codes[part]).sum(), None

    return jax.lax.scan(step, 0.0, rows)[0]


def batches(rows: np.ndarray, size: int) -> np.ndarray:
    """As many full minibatches as there are."""
    return rows[: len(rows) // size * size].reshape(-1, size).astype(np.int32)


def fixed_for(x: np.ndarray, codes: np.ndarray, pca: dict[str, np.ndarray], anchor: float) -> Fixed:
    """From standardised genes, labels and the fitted components."""
    spread = np.sqrt(pca["variance"])
    z = (x - pca["mean"]) @ pca["components"]
    weight = np.bincount(codes) ** -0.5
    arrays = {
        "x": x,
        "codes": codes.astype(np.int32),
        "mean": pca["mean"],
        "components": pca["components"],
        "spread": spread,
        "scale": STEP * np.sqrt(np.mean((pca["components"] / spread) ** 2)),
        "centre": np.stack([z.mean(axis=0), z.std(axis=0)]),
        "weight": weight / weight[codes].mean(),
        "anchor": anchor / len(x),
    }
    return Fixed(**{name: jnp.asarray(a, None if name == "codes" else jnp.float32) for name, a in arrays.items()})


def epochs(fixed: Fixed, seed: int = 0, size: int = BATCH) -> Iterator[tuple[float, float]]:
    """Loss in training and of held-out cells (15%), epoch by epoch without end; the best parameters are kept."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(fixed.x))
    apart, rows = np.split(order, [round(0.15 * len(order))])
    n_dims, n_labels = fixed.components.shape[1], len(fixed.weight)
    free = jnp.zeros(fixed.components.shape), (0.1 * jnp.ones((n_dims, n_labels)), jnp.zeros(n_labels))
    carry = *(jax.tree.map(jnp.copy, free) for _ in range(3)), jnp.zeros(())
    best, kept = np.inf, free
    apart = batches(apart, size)
    for number in count(seed):
        carry, mean = epoch(carry, fixed, batches(rng.permutation(rows), size), jax.random.key(number))
        loss = float(validation(carry[0], fixed, apart)) / apart.size
        if loss < best:
            best, kept = loss, jax.device_get(carry[0])
        yield float(mean), loss
    return kept
