"""Places of the nodes of a graph in layers, and routes of its edges around them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise

import numpy as np

Point = tuple[float, float]

LANE = 0.3
"""Width of an edge that passes between nodes, in widths of a node."""
CENTRED = 0.3
"""How far each layer is drawn to the middle, so that a branch does not leave the other half empty."""
SWEEPS = 24


def layered(
    nodes: Sequence[Hashable], edges: Sequence[tuple], depth: Mapping[Hashable, int]
) -> tuple[dict, list[list[Point]]]:
    """Position of each node and route of each edge, from top to bottom with few crossings (Sugiyama, by igraph).

    An edge across several layers has a way point in each, so that it passes around the nodes there. Within a layer the
    order is igraph's; nodes and way points are as near to what they are connected with as their widths allow.
    """
    import igraph

    layers, chains = [depth[node] for node in nodes], []
    short: list[tuple[int, int]] = []
    for start, end, _ in edges:
        chain = [nodes.index(start)]
        for layer in range(depth[start] + 1, depth[end]):
            chain.append(len(layers))
            layers.append(layer)
        chain.append(nodes.index(end))
        short += pairwise(chain)
        chains.append(chain)
    graph = igraph.Graph(n=len(layers), edges=short, directed=True)
    order = np.array([x for x, _ in graph.layout_sugiyama(layers=layers, hgap=1, vgap=1, maxiter=500)][: len(layers)])
    widths = np.where(np.arange(len(layers)) < len(nodes), 1.0, LANE)
    across = _across(order, np.array(layers), widths, graph.get_adjlist(mode="all"))
    at = [(float(x), float(y)) for x, y in zip(across, layers, strict=True)]
    places = {node: at[i] for i, node in enumerate(nodes)}
    return places, [[at[i] for i in chain] for chain in chains]


def _across(order: np.ndarray, layers: np.ndarray, widths: np.ndarray, linked: list[list[int]]) -> np.ndarray:
    """Horizontal positions: each at the mean of what it is connected with, none over another in its layer."""
    from sklearn.isotonic import isotonic_regression

    rows = [np.flatnonzero(layers == layer) for layer in np.unique(layers)]
    rows = [row[np.argsort(order[row], kind="stable")] for row in rows]
    x = np.zeros(len(layers))
    starts = []  # of each in its row, counted from the first
    for row in rows:
        start = np.concatenate([[0], np.cumsum((widths[row][1:] + widths[row][:-1]) / 2)])
        starts.append(start)
        x[row] = start - start[-1] / 2
    for sweep in range(SWEEPS):
        turn = list(zip(rows, starts, strict=True))
        for row, start in turn if sweep % 2 == 0 else reversed(turn):
            wanted = np.array([np.mean(x[linked[i]]) if linked[i] else x[i] for i in row]) * (1 - CENTRED)
            x[row] = isotonic_regression(wanted - start) + start
    return x


def depths(nodes: Sequence[Hashable], edges: Sequence[tuple], roots: Sequence[Hashable]) -> dict[Hashable, int]:
    """Layer of each node: below all that it is made from; roots right above the first node that takes them.

    Nodes at the end of their branch move down where their layer has more nodes than the others.
    """
    depth = dict.fromkeys(nodes, 0)
    for _ in nodes:
        for start, end, _ in edges:
            depth[end] = max(depth[end], depth[start] + 1)
    for node in roots:
        depth[node] = min(depth[end] for start, end, _ in edges if start == node) - 1
    last, most = max(depth.values()), max(2, round(0.8 * np.sqrt(len(nodes))))
    ends = [node for node in nodes if node not in {start for start, _, _ in edges}]
    for node in reversed(ends):
        counts = np.bincount(list(depth.values()), minlength=last + 1)
        if counts[depth[node]] > most:
            below = [layer for layer in range(depth[node] + 1, last + 1) if counts[layer] < most]
            depth[node] = below[0] if below else depth[node]
    return depth
