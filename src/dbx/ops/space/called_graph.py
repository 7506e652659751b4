"""Neighbours in tissue from within a compiled function."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dbx.ops.callbacks import on_host
from dbx.ops.values import Graph


def called_graph(search: Callable[[np.ndarray, np.ndarray], Graph], points, slices, width: int) -> Graph:
    """The neighbours that ``search`` finds on the host for positions and slices, in lists of a fixed width."""

    def padded(points, slices):
        indices = np.asarray(search(points, slices).indices)
        if indices.shape[1] > width:
            msg = f"A cell has {indices.shape[1]} neighbours, more than the {width} that lists were compiled for."
            raise ValueError(msg)
        own = np.repeat(np.arange(len(points))[:, None], width - indices.shape[1], axis=1)
        return (np.concatenate([indices, own], axis=1).astype(np.int32),)

    shapes = [jax.ShapeDtypeStruct((len(points), width), np.int32)]
    (indices,) = on_host(padded, shapes, jax.lax.stop_gradient(points), slices.astype(jnp.int32))
    rows = jnp.arange(len(points), dtype=jnp.int32)
    return Graph(indices, jnp.zeros(indices.shape, points.dtype), rows, len(points), distances=True)
