"""Parameters of recorded steps, freed for training: what they started from, and how far they may go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.label_head import Head
from dbx.ops.mlp import as_float
from dbx.ops.operator import Constant, Operator, Unit
from dbx.ops.values import Codes
from dbx.program.pipeline import Pipeline


class Moved(nnx.Variable):
    """How far a parameter has moved, in steps of its own."""


class Freed(nnx.Module):
    """Start + scale x moved, for each parameter of the trained steps; the head that judges what comes of them."""

    def __init__(self, pipeline: Pipeline, trained: dict[str, Operator], head: Head, centres: dict[str, np.ndarray]):
        self.names = tuple((step, name) for step in trained for name in pipeline.parameters[step])
        starts = [np.asarray(pipeline.parameters[step][name]) for step, name in self.names]
        units = [trained[step].units.get(name, Unit(1.0, 1.0)) for step, name in self.names]
        self.start = nnx.List([Constant(as_float(x)) for x in starts])
        wide = [
            np.broadcast_to(unit.of_distance, x.shape) * unit.of_step for unit, x in zip(units, starts, strict=True)
        ]
        self.scale, self.steps = nnx.List([Constant(as_float(x)) for x in wide]), tuple(unit.of_step for unit in units)
        self.moved = nnx.List([Moved(as_float(np.zeros(x.shape))) for x in starts])
        self.centre = nnx.Dict({name: Constant(as_float(centre)) for name, centre in centres.items()})
        self.head = head

    def parameters(self) -> dict[str, dict[str, Any]]:
        """As :attr:`Pipeline.parameters`."""
        found: dict[str, dict[str, Any]] = {}
        for (step, name), start, scale, moved in zip(self.names, self.start, self.scale, self.moved, strict=True):
            found.setdefault(step, {})[name] = start[...] + scale[...] * moved[...]
        return found

    def distance(self):
        """Sum of squares of how far the parameters have moved, in their units."""
        return sum(step**2 * jnp.sum(moved[...] ** 2) for step, moved in zip(self.steps, self.moved, strict=True))


class Judged:
    """Cross-entropy of the labels after the pipeline, for :func:`dbx.ops.training.train`."""

    def __init__(self, pipeline: Pipeline, levels: Mapping[str, tuple[str, ...] | None], target: str, dropout: float):
        """``levels`` has every slot that the pipeline starts from: levels of a column, None for numbers."""
        self.pipeline, self.levels, self.target, self.dropout = pipeline, levels, target, dropout

    def __call__(self, model: Freed, batch: dict[str, jax.Array], key, *, anchor):
        """The objective of each cell; see :class:`dbx.ops.training.Loss`."""
        inputs = {}
        for i, (slot, levels) in enumerate(self.levels.items()):
            x = batch[f"root{i}"] if levels is None else Codes(batch[f"root{i}"], levels)
            if key is not None and f"root{i}" in model.centre:
                x = dropped(x, model.centre[f"root{i}"][...], self.dropout, jax.random.fold_in(key, i))
            inputs[slot] = x
        z = self.pipeline(model.parameters(), inputs)[self.target]
        logits, loss = model.head(z), model.head.loss(z, batch["label"])
        penalty = 0 if key is None else anchor * model.distance()
        return loss + penalty, {"cross_entropy": loss, "errors": 1.0 * (logits.argmax(axis=1) != batch["label"])}


def dropped(x, centre, share: float, key):
    """Values set to the mean of their column at random, the rest moved away from it: the expectation stays."""
    kept = jax.random.bernoulli(key, 1 - share, x.shape)
    return jnp.where(kept, centre + (x - centre) / (1 - share), centre)
