"""Examples of functions that a user wrote; their inputs and outputs are part of the configuration."""

import jax.numpy as jnp
import numpy as np

from contract.example import Example
from dbx.ops.user.functions import register


def mean_of(x):
    return {"mean": np.asarray(x.mean(axis=0)).ravel()}


def centred(state, x):
    return jnp.tanh(x - state["mean"])


def squared(x):
    return x * x


register("centred", (mean_of, centred))
register("squared", squared)

EXAMPLES = [
    Example(
        operator="user_function",
        title="fitted",
        reads={"x": "layers/log"},
        config={
            "function": "centred",
            "reads": (("x", "genes"),),
            "writes": (("y", "cells"), ("mean", "genes")),
            "traced": True,
            "compiled": True,
            "by_cell": True,
        },
    ),
    Example(
        operator="user_function",
        title="numpy",
        reads={"x": "layers/log"},
        config={
            "function": "squared",
            "reads": (("x", "genes"),),
            "writes": (("y", "cells"),),
            "positional": True,
            "traced": True,
            "by_cell": True,
        },
    ),
]
