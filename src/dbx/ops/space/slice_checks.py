"""What slices must have before they are aligned."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import sparse

from dbx._warnings import warn
from dbx.ops.checks import listed

LEAST_SPOTS = 3


def check_overlap(overlap: float) -> None:
    """Refuse a fraction that is out of its range."""
    if not isinstance(overlap, int | float | np.number) or not 0 < overlap <= 1:
        msg = f'overlap must be "auto" or a fraction above 0 and at most 1; got {overlap!r}.'
        raise ValueError(msg)


def check_spots(counts: Mapping[str, int]) -> None:
    """Refuse slices of fewer than :data:`LEAST_SPOTS` spots."""
    few = [name for name, count in counts.items() if count < LEAST_SPOTS]
    if few:
        msg = f"A slice must have at least {LEAST_SPOTS} spots; fewer are in {listed(few)}. Remove these slices first."
        raise ValueError(msg)


def check_points(points: np.ndarray, name: str) -> None:
    """Refuse positions that are not those of spots."""
    if points.shape[1] not in (2, 3):
        msg = f"Positions must have 2 or 3 coordinates; got {points.shape[1]}."
        raise ValueError(msg)
    others = len(points) - len(np.unique(points, axis=0))
    if others > (len(points) - 1) - (len(points) + 1) // 2:
        msg = f"Most spots of slice {name!r} have the position of another one: are these the coordinates of the spots?"
        raise ValueError(msg)
    if others:
        warn(
            f"{others} of {len(points)} spots of slice {name!r} have the position of another one: each counts as a "
            "spot of its own, so that more mass lies there. If they are one spot measured twice, add up their counts."
        )


def check_shared(first: sparse.csr_matrix, second: sparse.csr_matrix, name: str) -> None:
    """Refuse slices that have no gene in common."""
    shared = (first.getnnz(axis=0) > 0) & (second.getnnz(axis=0) > 0)
    if not shared.any():
        msg = (
            f"Slice {name!r} shares no gene with the slice it is aligned with: no gene has counts in both. Are genes "
            "named alike in all slices?"
        )
        raise ValueError(msg)
