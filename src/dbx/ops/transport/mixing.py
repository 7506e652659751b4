"""Anderson acceleration of a fixed-point iteration."""

from __future__ import annotations

import numpy as np

MEMORY = 10
"""Earlier iterates that are mixed."""
RIDGE = 1e-10
"""Of the least squares, relative to the largest eigenvalue."""


class Mixing:
    """The next iterate from values and their images: the mixture of images whose mixed change is the smallest.

    Anderson, J. ACM 1965.
    """

    def __init__(self) -> None:
        self._images: list[np.ndarray] = []
        self._changes: list[np.ndarray] = []

    def next(self, value: np.ndarray, image: np.ndarray) -> np.ndarray:
        """The iterate that follows ``value``, whose image is given."""
        self._images = [*self._images[-MEMORY:], image]
        self._changes = [*self._changes[-MEMORY:], image - value]
        if len(self._changes) < 2:
            return image
        steps = np.diff(self._changes, axis=0)
        moves = np.diff(self._images, axis=0)
        gram = steps @ steps.T
        gram[np.diag_indices_from(gram)] += RIDGE * np.trace(gram)
        weights = np.linalg.solve(gram, steps @ self._changes[-1])
        return image - weights @ moves
