"""Tables of how slices were aligned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dbx.ops.values import Codes, Frame

SUMMARY = ("overlap", "objective", "change", "marginal_error", "n_iterations", "converged")
"""What is kept of the alignment of each pair."""
TURNS = ("turned by 0", "turned by 90", "turned by 180", "turned by 270")
START_NAMES = ("expression", "uniform", *TURNS, *(f"{turn}, mirrored" for turn in TURNS), "place")
"""Starts: transport by expression, the uniform plan, slices laid on each other by their axes, and by matched spots."""


def pair_table(levels: Sequence[str], chain: np.ndarray, summary: np.ndarray) -> Frame:
    """One row for each pair of slices, of which the second was moved."""
    values = dict(zip(SUMMARY, summary.T, strict=True))
    return Frame(
        {
            **_names(levels, chain),
            "overlap": values["overlap"],
            "objective": values["objective"],
            "change": values["change"],
            "marginal_error": values["marginal_error"],
            "n_iterations": values["n_iterations"].astype(np.int64),
            "converged": values["converged"].astype(bool),
        },
        rows=None,
    )


def start_table(levels: Sequence[str], chain: np.ndarray, start: np.ndarray, objective: np.ndarray) -> Frame:
    """One row for each start of each pair."""
    named = Codes(start.astype(np.int32), START_NAMES)
    return Frame({**_names(levels, chain), "start": named, "objective": objective}, rows=None)


def _names(levels: Sequence[str], chain: np.ndarray) -> dict[str, Codes]:
    return {
        name: Codes(column.astype(np.int32), tuple(levels))
        for name, column in zip(("first", "second"), chain.T, strict=True)
    }
