"""Differences between versions of scanpy and anndata, and between their two ways to pass a seed."""

from __future__ import annotations

from copy import deepcopy
from importlib.metadata import version
from numbers import Integral
from typing import Any

import numpy as np
from packaging.version import Version

SCANPY = Version(version("scanpy"))


def resolve_seed(random_state: Any = 0, rng: Any = None) -> int:
    """One integer seed from scanpy's ``random_state`` or its newer ``rng``.

    ``random_state`` is an int, a ``numpy.random.RandomState`` or None (0: dbx is reproducible by default); ``rng`` an
    int, a ``numpy.random.Generator`` or None.

    Raises
    ------
    TypeError
        Both were given, or ``random_state`` is no whole number.
    """
    if rng is not None:
        if not (random_state is None or (isinstance(random_state, int) and random_state == 0)):
            msg = "Pass `random_state` or `rng`, not both."
            raise TypeError(msg)
        return int(rng.integers(2**31)) if isinstance(rng, np.random.Generator) else int(rng)
    if random_state is None:
        return 0
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    if not isinstance(random_state, Integral):
        msg = f"random_state must be a whole number or a numpy.random.RandomState; got {random_state!r}."
        raise TypeError(msg)
    return int(random_state)


def is_view(data: Any) -> bool:
    """A view of another AnnData or MuData."""
    return bool(getattr(data, "is_view", False))


def own_copy(data: Any, *, copy: bool) -> Any:
    """The data to work on: themselves, or a copy in memory.

    Raises
    ------
    NotImplementedError
        A copy is wanted of data on disk.
    """
    if not copy:
        return data
    if getattr(data, "isbacked", False):
        msg = (
            f"copy=True is for data in memory, and these are backed by a file ({data.filename}). Load them first: "
            "adata = adata.to_memory(), or work on a copy of the file: adata = adata.copy(filename='copy.h5ad')."
        )
        raise NotImplementedError(msg)
    return data.copy()


def to_actual(data: Any) -> None:
    """Make a view an object of its own, in place, as assigning to any of its attributes does."""
    data.uns = deepcopy(dict(data.uns))
