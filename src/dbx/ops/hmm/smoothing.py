"""Pyramid-weighted running means along chromosomes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dbx.ops.arrays import array_library


@dataclass(frozen=True)
class Windows:
    """Windows around each column within its chromosome: two running means of half the width, one after the other."""

    chromosomes: np.ndarray
    """Chromosome of each column, sorted."""
    window: int

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """First column of each half window, and the one behind its last."""
        radius = (self.window + 1) // 4
        at = np.arange(len(self.chromosomes))
        first = np.searchsorted(self.chromosomes, self.chromosomes, side="left")
        last = np.searchsorted(self.chromosomes, self.chromosomes, side="right")
        return np.maximum(at - radius, first), np.minimum(at + radius + 1, last)

    def mean(self, x: Any) -> Any:
        """Weighted means of each row around each column, NumPy or JAX."""
        low, high = self.bounds
        xp = array_library(x)
        for _ in range(2):
            sums = xp.concatenate([xp.zeros((len(x), 1), x.dtype), xp.cumsum(x, axis=1)], axis=1)
            x = (sums[:, high] - sums[:, low]) / xp.asarray(high - low, x.dtype)
        return x

    @cached_property
    def effective(self) -> float:
        """Number of independent columns that a mean in the middle is worth: 1 over the sum of its squared weights."""
        width = 2 * ((self.window + 1) // 4) + 1
        weights = np.convolve(np.full(width, 1 / width), np.full(width, 1 / width))
        return float(1 / (weights**2).sum())
