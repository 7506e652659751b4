"""Shuffled minibatches of one static shape, from device memory or streamed from row blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.memory import aligned
from dbx.data.reading import write

RESIDENT_BYTES = 2**30
"""Data up to this size are kept on the device; larger data are streamed."""
CHUNK_BYTES = 128 * 2**20
"""Memory of one streamed chunk of minibatches."""
RUNS = 256
"""Runs of consecutive rows in a chunk of larger data: few enough to read from disk, enough for a random sample."""


class Plan(NamedTuple):
    """The minibatches of one epoch."""

    rows: np.ndarray
    """Array of shape (n_steps, size), int32: row numbers."""
    weights: np.ndarray
    """Array of shape (n_steps, size), float32: 1, or 0 for padding."""
    n_parts: int = 1
    """Number of parts, with equally many steps, that the rows were divided into before shuffling."""


class Chunk(NamedTuple):
    """Consecutive minibatches whose rows are on the device."""

    data: dict[str, jax.Array]
    rows: np.ndarray
    """Array of shape (n_steps, size), int32: row numbers within ``data``."""
    weights: np.ndarray
    steps: slice
    """Steps of the epoch."""


def split_rows(n_rows: int, fraction: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation rows, both sorted; at least one validation row where ``fraction`` is not zero."""
    n_validation = min(int(np.ceil(fraction * n_rows)), n_rows - 1)
    order = rng.permutation(n_rows)
    return np.sort(order[n_validation:]), np.sort(order[:n_validation])


def plan_epoch(
    rows: np.ndarray,
    batch_size: int,
    rng: np.random.Generator | None = None,
    *,
    multiple: int = 1,
    n_parts: int = 1,
) -> Plan:
    """Each row once, in minibatches of equal size of at most ``batch_size``; shuffled if ``rng`` is given.

    Sizes are equal (106 four times rather than 128 three times and 40), so that no step depends on a few cells, and
    rounded up to a ``multiple``. Minibatches with fewer rows are padded by other rows with weight 0.

    With several parts, ``RUNS`` runs of consecutive rows are assigned to each at random, and rows are shuffled within
    the part, so that reading it takes one read per run.
    """
    n_steps = max(-(-len(rows) // (batch_size * n_parts)), 1)
    size = -(-len(rows) // (n_steps * n_parts * multiple)) * multiple
    if rng is not None and n_parts > 1:
        length = max(len(rows) // (n_parts * RUNS), 1)
        runs = np.split(rows, np.arange(length, len(rows), length))
        rows = np.concatenate([runs[i] for i in rng.permutation(len(runs))])
    parts = [
        _filled(part if rng is None else rng.permutation(part), n_steps, size) for part in np.array_split(rows, n_parts)
    ]
    in_parts, weights = zip(*parts, strict=True)
    return Plan(np.concatenate(in_parts), np.concatenate(weights), n_parts)


def _filled(order: np.ndarray, n_steps: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and weights of minibatches of these rows, in this order."""
    n_fill = n_steps * size - len(order)
    fill = n_fill // n_steps + (np.arange(n_steps) >= n_steps - n_fill % n_steps)
    weights = (np.arange(size) < size - fill[:, None]).astype(np.float32)
    plan = np.empty((n_steps, size), np.int32)
    plan[weights == 1] = order
    plan[weights == 0] = np.resize(order, n_fill)
    return plan, weights


def plan_whole(
    rows: np.ndarray, groups: np.ndarray, batch_size: int, rng: np.random.Generator | None = None, *, multiple: int = 1
) -> Plan:
    """Each row once, all rows of a group in one minibatch; groups are shuffled if ``rng`` is given.

    ``groups`` has the group of every row of the data. Minibatches have about ``batch_size`` rows, or as many as the
    largest group, and are padded by rows of other groups with weight 0. Their number and size do not depend on ``rng``.
    """
    _, group, sizes = np.unique(groups[rows], return_inverse=True, return_counts=True)
    n_steps = max(len(rows) // max(batch_size, sizes.max()), 1)
    size = len(rows) if n_steps == 1 else -(-len(rows) // n_steps) + sizes.max()
    size = -(-size // multiple) * multiple
    order = np.arange(len(sizes)) if rng is None else rng.permutation(len(sizes))
    before = np.cumsum(sizes[order]) - sizes[order]
    step = np.empty(len(sizes), int)
    step[order] = before * n_steps // len(rows)  # no step is empty: groups are smaller than its share
    place = np.empty(len(sizes), int)
    place[order] = np.arange(len(sizes))
    plan, weights = np.empty((n_steps, size), np.int32), np.zeros((n_steps, size), np.float32)
    everything = np.arange(len(groups))
    for i in range(n_steps):
        own = np.flatnonzero(step[group] == i)
        own = rows[own[np.argsort(place[group[own]], kind="stable")]]
        others = np.setdiff1d(everything, own)
        plan[i, : len(own)], weights[i, : len(own)] = own, 1
        plan[i, len(own) :] = np.resize(others if len(others) else own, size - len(own))
    return Plan(plan, weights)


class Minibatches:
    """Matrices and columns with the same rows, iterated as minibatches.

    Data of up to ``budget`` bytes are kept on the device, counts in the narrowest integer type that represents them; of
    larger data the rows of a few minibatches at a time are read from memory or disk. Which rows share a minibatch
    depends only on the size of the data (:meth:`plan`), so that every kind of array gives the same trained parameters.
    """

    def __init__(
        self,
        columns: Mapping[str, RowBlocks | np.ndarray],
        *,
        budget: int = RESIDENT_BYTES,
        groups: np.ndarray | None = None,
    ):
        """Rows of one of the ``groups``, an array of shape (n_rows,), share a minibatch."""
        self.groups = groups
        # counts are read in the type that is sent to the device
        self.columns = {
            name: RowBlocks(x, dtype=narrowest(x)) if isinstance(x, RowBlocks) else x for name, x in columns.items()
        }
        first = next(iter(self.columns.values()))
        self.n_rows = first.n_rows if isinstance(first, RowBlocks) else len(first)
        matrices = [x for x in self.columns.values() if isinstance(x, RowBlocks)]
        self._row_bytes = sum(x.n_columns * x.dtype.itemsize for x in matrices)
        self.resident = self._row_bytes * self.n_rows <= budget
        self._data = {name: jax.device_put(_whole(x)) for name, x in self.columns.items()} if self.resident else {}

    @property
    def placement(self) -> str:
        """Human-readable placement of the data."""
        size = f"{self._row_bytes * self.n_rows / 1e6:,.0f} MB"
        return f"data on the device ({size})" if self.resident else f"data streamed to the device ({size} each epoch)"

    def plan(self, rows: np.ndarray, batch_size: int, rng: np.random.Generator | None = None, *, multiple=1) -> Plan:
        """The minibatches of an epoch over the given rows; see :func:`plan_epoch`.

        Data of up to ``RESIDENT_BYTES`` are shuffled as a whole, larger data in parts of about ``CHUNK_BYTES``,
        whatever the kind of array and its placement.
        """
        if self.groups is not None:
            return plan_whole(rows, self.groups, batch_size, rng, multiple=multiple)
        large = self._row_bytes * self.n_rows > RESIDENT_BYTES
        n_parts = -(-len(rows) * self._row_bytes // CHUNK_BYTES) if large else 1
        return plan_epoch(rows, batch_size, rng, multiple=multiple, n_parts=n_parts)

    def epoch(self, plan: Plan) -> Iterator[Chunk]:
        """The minibatches of a plan, in order: one chunk for data on the device, else chunks of a few steps."""
        n_steps, size = plan.rows.shape
        if self.resident:
            yield Chunk(self._data, plan.rows, plan.weights, slice(0, n_steps))
            return
        at_once = n_steps // plan.n_parts
        if plan.n_parts == 1:
            at_once = max(CHUNK_BYTES // max(size * self._row_bytes, 1), 1)
        for start in range(0, n_steps, at_once):
            steps = slice(start, min(start + at_once, n_steps))
            rows = plan.rows[steps].ravel()
            data = {name: jax.device_put(_read(x, rows)) for name, x in self.columns.items()}
            yield Chunk(data, np.arange(len(rows), dtype=np.int32).reshape(-1, size), plan.weights[steps], steps)


def _read(x, rows: np.ndarray) -> np.ndarray:
    return x.dense(rows) if isinstance(x, RowBlocks) else x[rows]


def _whole(x) -> np.ndarray:
    if not isinstance(x, RowBlocks):
        return x
    whole = aligned(x.shape, x.dtype)
    for start, stop, part in x.parts():
        write(part, whole[start:stop])
    return whole


def narrowest(x: RowBlocks) -> np.dtype:
    """The smallest of uint8, uint16 and the matrix's own type that represents all values exactly."""
    largest = 0
    for _, _, part in x.parts():
        values: Any = part.data if sparse.issparse(part) else part
        if values.size == 0:
            continue
        if values.min() < 0 or (values.dtype.kind == "f" and not np.array_equal(values, np.floor(values))):
            return x.dtype
        largest = max(largest, values.max())
    fitting = [dtype for dtype in (np.uint8, np.uint16) if largest <= np.iinfo(dtype).max]
    return np.dtype(fitting[0]) if fitting else x.dtype
