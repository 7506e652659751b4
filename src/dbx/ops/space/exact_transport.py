"""Exact optimal transport between two discrete measures: linear assignment and the network simplex."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from dbx.ops.space.transport_starts import assigned, first_tree, nearly_assigned

TOLERANCE = 1e-12
"""Reduced costs above minus this, relative to the largest cost, are taken for zero."""
FAR = 0.7
"""Fraction of the sources with an edge of negative reduced cost above which an assignment is a better start."""


class Transport:
    """Transport plans of least cost between fixed masses, for one cost after the other.

    With as many sources as targets of the same mass it is an assignment. Otherwise the network simplex method runs from
    the last solution's basis, which is feasible for every cost: a cost much like the last one takes few pivots.
    With ``mass`` below 1, so much is transported of masses that each sum to 1.
    """

    def __init__(self, source: np.ndarray, target: np.ndarray, mass: float = 1.0):
        self.shape = len(source), len(target)
        self.partial = mass < 1
        if self.partial:
            source, target = np.append(source, target.sum() - mass), np.append(target, source.sum() - mass)
        self._masses = source, target
        self._assignment = len(source) == len(target) and np.ptp(source) == 0 and np.ptp(target) == 0
        self._nearly_assigned = nearly_assigned(*self._masses)
        self._basis: Basis | None = None

    def __call__(self, cost: np.ndarray) -> sparse.csr_matrix:
        """The plan of least cost, an array of shape (n_sources, n_targets)."""
        if self.partial:
            cost = _with_nowhere(cost)
        if self._assignment:
            return sparse.csr_matrix((self._masses[0], (np.arange(self.shape[0]), assigned(cost))), self.shape)
        if self._basis is None or (self._nearly_assigned and self._basis.entering(cost).mean() > FAR):
            self._basis = Basis(*self._masses, cost)
        self._basis.improve(cost)
        return self._basis.plan()[: self.shape[0], : self.shape[1]]


def _with_nowhere(cost: np.ndarray) -> np.ndarray:
    """Costs with one more source and one more target, of what is not transported: 0, and more than any between them."""
    padded = np.zeros((cost.shape[0] + 1, cost.shape[1] + 1))
    padded[:-1, :-1] = cost
    padded[-1, -1] = 2 * np.abs(cost).max() + 1
    return padded


class Basis:
    """A spanning tree of sources and targets, and the flow on its edges: a vertex of the transport polytope.

    Nodes are sources, then targets; node 0 is the root. Masses are perturbed so that no proper subset of the sources
    has the mass of a set of targets. No flow in a tree is zero then and every pivot lowers the cost.
    """

    def __init__(self, source: np.ndarray, target: np.ndarray, cost: np.ndarray):
        self.n = len(source)
        self.masses = np.concatenate([source, -target])
        size = self.masses.size
        nudge = np.abs(self.masses).sum() * 1e-9 / size
        perturbed = self.masses.copy()
        perturbed[: self.n] += nudge * (1 + np.arange(self.n) / self.n)
        perturbed[-1] -= perturbed.sum()
        self.parent = [-1] * size
        self.depth = [0] * size
        self.children: list[set[int]] = [set() for _ in range(size)]
        self._hang(*first_tree(cost, perturbed[: self.n], -perturbed[self.n :]))
        self.flow = self._flows(perturbed)

    def _hang(self, sources: np.ndarray, targets: np.ndarray) -> None:
        neighbours: list[list[int]] = [[] for _ in self.parent]
        for i, j in zip(sources.tolist(), (targets + self.n).tolist(), strict=True):
            neighbours[i].append(j)
            neighbours[j].append(i)
        queue, seen = [0], {0}
        for node in queue:
            for other in neighbours[node]:
                if other not in seen:
                    seen.add(other)
                    queue.append(other)
                    self.parent[other] = node
                    self.depth[other] = self.depth[node] + 1
                    self.children[node].add(other)
        assert len(queue) == len(self.parent)

    def _below(self, top: int) -> list[int]:
        """A node and all nodes below it, parents first."""
        queue = [top]
        for node in queue:
            queue.extend(self.children[node])
        return queue

    def _flows(self, masses: np.ndarray) -> list[float]:
        """Flow between each node and its parent that moves these masses."""
        left, flow = masses.tolist(), [0.0] * len(masses)
        for node in reversed(self._below(0)[1:]):
            flow[node] = left[node] if node < self.n else -left[node]
            left[self.parent[node]] += left[node]
        return flow

    def _edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Source and target of the edge between each node but the root and its parent."""
        nodes, parent = np.arange(1, len(self.parent)), np.array(self.parent[1:])
        return np.minimum(nodes, parent), np.maximum(nodes, parent) - self.n

    def _potentials(self, cost: np.ndarray) -> list[float]:
        rows, columns = self._edges()
        edge, found = cost[rows, columns].tolist(), [0.0] * len(self.parent)
        for node in self._below(0)[1:]:
            found[node] = edge[node - 1] - found[self.parent[node]]
        return found

    def _gains(self, cost: np.ndarray, potential: list[float]) -> tuple[np.ndarray, np.ndarray]:
        """The target with the least reduced cost for each source, and that cost."""
        reduced = cost - np.array(potential[self.n :])
        best = reduced.argmin(axis=1)
        return best, reduced[np.arange(self.n), best] - np.array(potential[: self.n])

    def entering(self, cost: np.ndarray) -> np.ndarray:
        """Whether each source has an edge of negative reduced cost."""
        return self._gains(cost, self._potentials(cost))[1] < -TOLERANCE * np.abs(cost).max()

    def improve(self, cost: np.ndarray) -> None:
        """Pivot until no edge has a negative reduced cost."""
        tolerance = TOLERANCE * np.abs(cost).max()
        potential = self._potentials(cost)
        while True:
            best, gain = self._gains(cost, potential)
            entering = np.flatnonzero(gain < -tolerance)
            if not len(entering):
                return
            for i in entering[np.argsort(gain[entering])].tolist():
                j = int(best[i])
                change = float(cost[i, j]) - potential[i] - potential[self.n + j]
                if change < -tolerance:
                    self._pivot(i, self.n + j, change, potential)

    def _pivot(self, source: int, target: int, change: float, potential: list[float]) -> None:
        parent, depth, flow, n = self.parent, self.depth, self.flow, self.n
        a, b = source, target
        up_a, up_b = [], []
        while a != b:
            if depth[a] >= depth[b]:
                up_a.append(a)
                a = parent[a]
            else:
                up_b.append(b)
                b = parent[b]
        falling = [k for k in up_a if k < n] + [k for k in up_b if k >= n]
        leaving = min(falling, key=flow.__getitem__)
        moved = flow[leaving]
        for k in up_a:
            flow[k] += -moved if k < n else moved
        for k in up_b:
            flow[k] += moved if k < n else -moved
        on_a = leaving in up_a
        inside, outside = (source, target) if on_a else (target, source)
        # turn the path from the entering edge to the leaving one upside down
        path = up_a if on_a else up_b
        path = path[: path.index(leaving) + 1]
        self.children[parent[leaving]].discard(leaving)
        below, carried = outside, moved
        for k in path:
            old, old_flow = parent[k], flow[k]
            if k != leaving:
                self.children[old].discard(k)
            self.children[below].add(k)
            parent[k] = below
            flow[k] = carried
            below, carried = k, old_flow
        # potentials of the moved subtree
        depth[inside] = depth[outside] + 1
        shift = change
        is_row = inside < n
        queue = [inside]
        for k in queue:
            potential[k] += shift if (k < n) == is_row else -shift
            d = depth[k] + 1
            for c in self.children[k]:
                depth[c] = d
                queue.append(c)

    def plan(self) -> sparse.csr_matrix:
        """Flow of the masses that were passed."""
        flow = np.maximum(self._flows(self.masses), 0.0)[1:]
        rows, columns = self._edges()
        made = sparse.csr_matrix((flow, (rows, columns)), (self.n, len(self.parent) - self.n))
        made.eliminate_zeros()
        return made
