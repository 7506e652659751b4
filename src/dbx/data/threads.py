"""Parts of the rows in threads: NumPy and SciPy release the interpreter while they compute."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")
Item = TypeVar("Item")

PARTS = 8
"""The same on every machine, so that sums over parts are, too."""


def in_threads(work: Callable[[slice], T], n_rows: int, at_least: int = 1) -> list[T]:
    """The results of ``work`` for parts of the rows, in their order; each part has ``at_least`` so many rows."""
    parts = list(row_slices(slice(0, n_rows), max(-(-n_rows // PARTS), at_least)))
    if len(parts) < 2:
        return list(map(work, parts))
    with ThreadPoolExecutor(min(len(parts), n_processors())) as pool:
        return list(pool.map(work, parts))


def map_in_threads(work: Callable[[Item], T], items: Iterable[Item], n_threads: int = 4) -> Iterator[T]:
    """The results of ``work`` for each item, in order; few items are drawn ahead, in the calling thread."""
    with ThreadPoolExecutor(min(n_threads, n_processors())) as pool:
        pending: deque[Future[T]] = deque()
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > n_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def one_blas_thread() -> AbstractContextManager:
    """While it is open, products take one thread: BLAS's own threads would hinder those of :func:`in_threads`.

    The libraries are looked for once, which takes 5 ms.
    """
    return _libraries().limit(limits=1)


@lru_cache
def _libraries():
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def n_processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def row_slices(rows: slice, size: int) -> Iterator[slice]:
    """Consecutive rows among ``rows``, at most ``size`` at a time."""
    size = max(size, 1)
    return (slice(at, min(at + size, rows.stop)) for at in range(rows.start, rows.stop, size))


def rows_at_once(n_columns: int, n_factors: int) -> int:
    """Rows of a thin product, with ``n_factors`` on the other side, that BLAS computes without threads of its own."""
    return max((1 << 18) // max(n_columns * n_factors, 1), 1)
