"""What the expression of a gene along pseudotime looks like."""

from __future__ import annotations

import numpy as np

SHAPES = ("none", "gradual", "switch", "transient")
TURNING = 0.2
"""A curve turns if it goes back by more than this part of its range."""


def turns(curve: np.ndarray) -> np.ndarray:
    """Whether each curve, a row of values in the order of time, goes back by much; an array of shape (n_genes,)."""
    span = np.maximum(np.ptp(curve, axis=1), 1e-12)
    back = (np.maximum.accumulate(curve, axis=1) - curve).max(axis=1)
    forth = (curve - np.minimum.accumulate(curve, axis=1)).max(axis=1)
    return np.minimum(back, forth) > TURNING * span


def classify(criteria: dict[str, np.ndarray], turning: np.ndarray | None) -> np.ndarray:
    """Number of each gene's shape in SHAPES: that of the model with the smallest criterion.

    ``criteria`` has one for ``none``, ``gradual``, ``switch`` and, with ``turning``, for ``spline``; a spline that does
    not turn is a trend or a switch, whichever has the smaller one.
    """
    best = np.argmin([criteria[name] for name in SHAPES[:3]], axis=0)
    if turning is None:
        return best
    lowest = np.min([criteria[name] for name in SHAPES[:3]], axis=0)
    monotone = np.where(criteria["switch"] < criteria["gradual"], SHAPES.index("switch"), SHAPES.index("gradual"))
    of_spline = np.where(turning, SHAPES.index("transient"), monotone)
    return np.where(criteria["spline"] < lowest, of_spline, best)
