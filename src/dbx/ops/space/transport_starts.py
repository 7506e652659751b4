"""Where the network simplex method starts: trees on which all masses move at little cost."""

from __future__ import annotations

import numpy as np

ROUNDS, WIDTH = 10, 0.1
"""Sinkhorn's iterations before an assignment, and their regularisation in standard deviations of the costs."""
LEAST = np.float32(1e-15)
"""Least entry of their kernel and scalings, whose products float32 can hold."""
MOST, ALIKE = 0.9, 1e-6
"""An assignment is the start if of the larger side so many are assigned, and if masses differ by less than this."""
ROWS = 512
"""Rows whose paths are extended at once."""


def assigned(cost: np.ndarray) -> np.ndarray:
    """Column of each row in an assignment without two that would better be exchanged, for at most as many rows.

    Of a square matrix it is an assignment of least cost.
    """
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(cost + _potentials(cost))[1]


def _potentials(cost: np.ndarray) -> np.ndarray:
    """What Sinkhorn's iterations add to each column: no assignment gains on another, and the best is found sooner."""
    lowered = (cost - cost.min(axis=1, keepdims=True)).astype(np.float32)
    width = max(WIDTH * float(lowered.std()), float(np.finfo(np.float32).tiny))
    lowered /= -width
    kernel = np.exp(lowered, out=lowered)
    kernel += LEAST
    columns = np.ones(cost.shape[1], np.float32)
    for _ in range(ROUNDS):
        columns = np.clip(1 / ((1 / (kernel @ columns)) @ kernel), LEAST, 1 / LEAST)
    return -width * np.log(columns.astype(np.float64))


def first_tree(cost: np.ndarray, source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sources and targets of the edges of a spanning tree on which masses move."""
    if not nearly_assigned(source, target):
        return _greedy(cost, source, target)
    if len(source) > len(target):
        return _assigned_tree(cost, source, target)
    return _assigned_tree(np.ascontiguousarray(cost.T), target, source)[::-1]


def nearly_assigned(source: np.ndarray, target: np.ndarray) -> bool:
    """Whether an assignment moves nearly all mass, between different numbers of sources and targets."""
    few, many = sorted((len(source), len(target)))
    alike = all(np.ptp(masses) < ALIKE * masses.mean() for masses in (source, target))
    return bool(alike and MOST * many <= few < many)


def _greedy(cost: np.ndarray, source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each source ships to its cheapest targets that still take mass."""
    left, takes = source.copy(), target.copy()
    rows, columns = [], []
    open_targets = np.ones(len(target), bool)
    for i in np.argsort(cost.min(axis=1), kind="stable").tolist():
        for j in np.argsort(cost[i], kind="stable").tolist():
            if not open_targets[j]:
                continue
            rows.append(i)
            columns.append(j)
            moved = min(left[i], takes[j])
            left[i] -= moved
            takes[j] -= moved
            if left[i] <= takes[j]:
                break
            open_targets[j] = False
    return np.array(rows), np.array(columns)


def _assigned_tree(cost: np.ndarray, row_mass: np.ndarray, column_mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a spanning tree on which masses move at about the least cost; there are more rows.

    A column has more mass than a row. Each takes all of the row that is assigned to it, and lacks a little. This comes
    from a row that is left over, or from a row assigned to another column that is supplied in turn: along paths of
    least cost, except where they would take more than a row has.
    """
    at = assigned(cost.T)
    free = np.setdiff1d(np.arange(len(cost)), at)
    before = _paths(cost, at, free)
    children: list[list[int]] = [[] for _ in at]
    for j, k in enumerate(before.tolist()):
        if k >= 0:
            children[k].append(j)
    order = np.flatnonzero(before < 0).tolist()
    for j in order:
        order.extend(children[j])
    lacks = (column_mass - row_mass[at]).tolist()
    spare = row_mass[at].tolist()
    rows, columns, top = at.tolist(), list(range(len(at))), []
    for j in reversed(order):
        k = int(before[j])
        if k >= 0 and lacks[j] < spare[k]:
            spare[k] -= lacks[j]
            lacks[k] += lacks[j]
            rows.append(int(at[k]))
            columns.append(j)
        else:
            top.append(j)
    supplied = _supplied(cost[free][:, top], row_mass[free].tolist(), [lacks[j] for j in top])
    rows.extend(int(free[i]) for i, _ in supplied)
    columns.extend(top[t] for _, t in supplied)
    return np.array(rows), np.array(columns)


def _paths(cost: np.ndarray, at: np.ndarray, free: np.ndarray) -> np.ndarray:
    """The column before each on its path of least cost from the rows left over, -1 without one (Bellman-Ford)."""
    own = cost[at, np.arange(len(at))]
    tolerance = 1e-12 * np.abs(cost).max()
    length, before, changed = cost[free].min(axis=0), np.full(len(at), -1), np.arange(len(at))
    while len(changed):
        start = length.copy()
        for first in range(0, len(changed), ROWS):
            some = changed[first : first + ROWS]
            longer = cost[at[some]]
            longer += (start[some] - own[some])[:, None]
            found = longer.min(axis=0)
            better = np.flatnonzero(found < length - tolerance)
            length[better] = found[better]
            before[better] = some[longer[:, better].argmin(axis=0)]
        changed = np.flatnonzero(length < start)
    return before


def _supplied(cost: np.ndarray, room: list[float], lacks: list[float]) -> list[tuple[int, int]]:
    """Edges from rows with room to columns that lack mass: the cheapest row that has as much, or several in turn."""
    edges, rest = [], []
    cheapest = cost.argmin(axis=0)
    for t in np.argsort(cost.min(axis=0), kind="stable").tolist():
        i = int(cheapest[t])
        if lacks[t] <= room[i]:
            room[i] -= lacks[t]
            edges.append((i, t))
        else:
            rest.append(t)
    i = 0
    for t in rest:
        left = lacks[t]
        edges.append((i, t))
        while left > room[i] and i < len(room) - 1:
            left -= room[i]
            i += 1
            edges.append((i, t))
        room[i] -= left
    return edges
