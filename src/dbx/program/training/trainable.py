"""Trainable parameters of recorded steps: initial value, scale, change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.arrays import as_float
from dbx.ops.operator import Constant, Operator, Unit
from dbx.program.pipeline.pipeline import Pipeline


class Moved(nnx.Variable):
    """Change of a parameter, in units of its own step size."""


class Trainable(nnx.Module):
    """Start + scale x moved, for each parameter of the trained steps, and the heads that judge the result."""

    def __init__(
        self,
        pipeline: Pipeline,
        trained: Mapping[str, Operator],
        heads: Mapping[str, nnx.Module],
        centres: Mapping[str, np.ndarray],
        whole: Mapping[str, Any],
    ):
        """``whole`` are columns of all cells, for a block of a graph to take neighbours from."""
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
        self.heads = nnx.Dict(heads)
        self.whole = nnx.Dict({name: Constant(jax.device_put(x)) for name, x in whole.items()})

    def parameters(self) -> dict[str, dict[str, Any]]:
        """As :attr:`Pipeline.parameters`."""
        found: dict[str, dict[str, Any]] = {}
        for (step, name), start, scale, moved in zip(self.names, self.start, self.scale, self.moved, strict=True):
            found.setdefault(step, {})[name] = start[...] + scale[...] * moved[...]
        return found

    def jittered(self, operators: Mapping[str, Operator], key) -> dict[str, dict[str, Any]]:
        """The same with the noise of stochastic gates."""
        found = self.parameters()
        for i, (step, named) in enumerate(found.items()):
            noise = operators[step].jitter(jax.random.fold_in(key, i))
            found[step] = {name: value + noise.get(name, 0) for name, value in named.items()}
        return found

    def distance(self):
        """Sum of squares of how far the parameters have moved, in their units."""
        return sum(step**2 * jnp.sum(moved[...] ** 2) for step, moved in zip(self.steps, self.moved, strict=True))
