"""An example as one function of its parameters and float inputs in float64, compiled once for all promises about it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from contract.example import Example, fitted, on_device
from dbx.ops.operator import Operator


@dataclass(frozen=True)
class Differentiated:
    """To be called where float64 is enabled; a point is (parameters by name, float inputs by number).

    Losses of counts are not differentiated in them: likelihoods of whole numbers are exact there, and no more.
    """

    point: tuple[dict[str, Any], dict[str, Any]]
    call: dict[str, Any]
    """What the operator is called with, in float64."""
    compiled: Callable
    """(point, call) -> ((a number made of all outputs and the loss, (outputs, loss of each cell)), its derivative)."""

    def evaluate(self, point, call=None) -> tuple[Any, dict[str, Any]]:
        """That number and the outputs."""
        (total, (outputs, _)), _ = self.compiled(point, self.call if call is None else call)
        return total, outputs

    def gradient(self, point):
        """The derivative of that number."""
        return self.compiled(point, self.call)[1]

    def losses(self, call):
        """The loss of each cell, with other cells than those of the point."""
        floats = numbered(call)
        return self.compiled((self.point[0], floats), call)[0][1][1]


@cache
def differentiated(example: Example) -> Differentiated:
    made = fitted(example)
    with jax.enable_x64(True):
        graphdef, params, rest = nnx.split(made.operator, nnx.Param, ...)
        leaves, tree = jax.tree.flatten(double(params))
        named = dict(zip(parameters(made.operator), leaves, strict=True))
        rest, inputs = double(rest), double(on_device(made.call))

    def evaluate(point, given):
        params, floats = point
        operator = nnx.merge(graphdef, jax.tree.unflatten(tree, [params[name] for name in named]), rest, copy=True)
        leaves, structure = jax.tree.flatten(given)
        call = jax.tree.unflatten(structure, [floats.get(str(i), leaf) for i, leaf in enumerate(leaves)])
        outputs = operator(**call)
        counts = {name for name, port in example.cls.inputs.items() if port.content == ("counts",)}
        fixed = {name: given[name] if name in counts else value for name, value in call.items()}
        loss = {"loss": operator.loss(fixed, outputs)} if has_loss(example) else {}
        reached = {name: jnp.where(jnp.isfinite(outputs[name]), outputs[name], 0) for name in example.infinite}
        return weighted({**outputs, **reached, **loss}), (outputs, loss.get("loss"))

    compiled = jax.jit(jax.value_and_grad(evaluate, has_aux=True))
    return Differentiated((named, numbered(inputs)), inputs, compiled)


def numbered(call) -> dict[str, Any]:
    """Float leaves of a call by their number."""
    leaves = enumerate(jax.tree.leaves(call))
    return {str(i): leaf for i, leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)}


def has_loss(example: Example) -> bool:
    return example.cls.loss is not Operator.loss


def parameters(operator: Operator) -> dict[str, nnx.Param]:
    """By dotted name, in the order of the leaves of the state."""
    return {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(nnx.state(operator, nnx.Param))}


def weighted(outputs: dict[str, Any]):
    """Sum of all values with weights that are always the same."""
    total = jnp.zeros(())
    for key, output in outputs.items():
        for i, leaf in enumerate(jax.tree.leaves(output)):
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                weight = np.random.default_rng(zlib.crc32(f"{key}{i}".encode())).normal(size=leaf.shape)
                total = total + (leaf * weight).sum()
    return total


def double(tree):
    def one(leaf):
        return jnp.asarray(leaf, jnp.float64) if jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating) else leaf

    return jax.tree.map(one, tree)
