"""Values that fitted cells keep and other cells take from their neighbours."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from dbx.ops.dynamics.adjacency import neighbour_mean
from dbx.ops.values import Array, Edges, Graph


def kept_or_mean(stored: Array, graph: Graph | Edges, alone: float = np.nan) -> Array:
    """The ``stored`` row of a fitted cell; for others the mean over their neighbours among the reference cells.

    An array of shape (n_cells, n_columns) for one of shape (n_reference, n_columns). What is not finite in a
    neighbour is left out; a cell with nothing else gets ``alone``.
    """
    library = np if isinstance(graph, Edges) else jnp
    stored, rows = library.asarray(stored), library.asarray(graph.rows)
    own = stored[library.maximum(rows, 0)]
    if isinstance(graph, Edges) and (rows >= 0).all():
        return own
    known = library.isfinite(stored)
    pair = library.concatenate([library.where(known, stored, 0), known.astype(stored.dtype)], axis=1)
    mean, _ = neighbour_mean(library.zeros((len(rows), pair.shape[1]), pair.dtype), pair, graph)
    value, share = mean[:, : stored.shape[1]], mean[:, stored.shape[1] :]
    found = library.where(share > 0, value / library.where(share > 0, share, 1), alone)
    return library.where((rows >= 0)[:, None], own, found)
