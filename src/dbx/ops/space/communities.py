"""Communities of cells with similar coordinates, as many as are wanted."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from dbx.ops.clusters.leiden import Leiden
from dbx.ops.space.neighbors import spatial_graph

N_NEIGHBORS = 15
BISECTIONS = 20


def communities(x: np.ndarray, n_wanted: int | None, *, seed: int) -> np.ndarray:
    """Leiden communities among the 15 nearest cells; labels of shape (n_cells,).

    The resolution is 1, or the one that comes closest to ``n_wanted`` communities.
    """
    graph = spatial_graph(x, n_neighs=N_NEIGHBORS, symmetric=True).to_csr()
    graph.data = np.ones_like(graph.data)
    if n_wanted is None:
        return _labels(graph, 1.0, seed)
    low, high, best = 1e-3, 10.0, np.zeros(len(x), int)
    for _ in range(BISECTIONS):
        middle = float(np.sqrt(low * high))
        labels = _labels(graph, middle, seed)
        found = int(labels.max()) + 1
        if abs(found - n_wanted) < abs(best.max() + 1 - n_wanted):
            best = labels
        if found == n_wanted:
            break
        low, high = (middle, high) if found < n_wanted else (low, middle)
    return best


def _labels(graph: sparse.csr_matrix, resolution: float, seed: int) -> np.ndarray:
    operator = Leiden(resolution=resolution, flavor="igraph", n_iterations=2, directed=False)
    operator.fit(graph=graph, seed=seed)
    return np.asarray(operator.labels.get_value().codes)
