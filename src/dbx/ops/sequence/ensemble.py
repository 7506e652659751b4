"""Members of an ensemble side by side: one network whose parameters have a leading axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx

Member = TypeVar("Member", bound=nnx.Module)


def stack(members: Sequence[Member]) -> Member:
    """One module with the parameters of all."""
    graphdef, *_ = nnx.split(members[0])
    states = [nnx.split(member)[1] for member in members]
    return nnx.merge(graphdef, jax.tree.map(lambda *values: np.stack(values), *states))


def each(network: nnx.Module, function: Callable[..., Any], key=None) -> Any:
    """``function(member, key)`` of every member, with a leading axis for members."""
    graphdef, state = nnx.split(network)
    n_members = jax.tree.leaves(state)[0].shape[0]
    if key is None:
        return jax.vmap(lambda values: function(nnx.merge(graphdef, values), None))(state)
    return jax.vmap(lambda values, own: function(nnx.merge(graphdef, values), own))(
        state, jax.random.split(key, n_members)
    )
