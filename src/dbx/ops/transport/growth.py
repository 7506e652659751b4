"""Masses of cells by their expected number of descendants."""

from __future__ import annotations

from typing import Any

import numpy as np

from dbx.ops.arrays import array_library


def check_growth(growth: np.ndarray) -> None:
    """Raise ValueError unless growth rates are finite and above zero."""
    wrong = ~(np.isfinite(growth) & (growth > 0))
    if wrong.any():
        msg = (
            f"Growth must be the expected number of descendants per unit time, finite and above 0; {int(wrong.sum())} "
            f"cells have other values, the first {growth[wrong][0]:g} (row {int(np.flatnonzero(wrong)[0])}). A rate r "
            "of exponential growth is exp(r)."
        )
        raise ValueError(msg)


def log_row_sums(log_a: Any, phi: Any, tau: Any) -> Any:
    """Logarithms of the sums of rows of an optimal coupling with masses a, from its potentials over epsilon."""
    return log_a - phi * ((1 - tau) / tau)


def normalised(logs: Any) -> Any:
    """Logarithms of values that sum to 1."""
    return logs - log_total(logs)


def log_total(logs: Any) -> Any:
    """Log of the sum of exp(logs)."""
    xp = array_library(logs)
    largest = logs.max()
    return largest + xp.log(xp.exp(logs - largest).sum())
