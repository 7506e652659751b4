"""Standardised expression of regulators and targets, and networks between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

TINY = 1e-9
"""Standard deviation below which a gene counts as constant."""


class Network(NamedTuple):
    """Edges from each regulator to each target."""

    importance: np.ndarray
    """Array of shape (n_regulators, n_targets), float64, at least 0; 0 from a regulator to itself."""
    sign: np.ndarray
    """Array of the same shape, int8: 1 for activation, -1 for repression, 0 where neither is seen."""


@dataclass(frozen=True)
class Panel:
    """Genes of some cells, with mean 0 and variance 1; a constant gene is 0."""

    values: np.ndarray
    """Array of shape (n_cells, n_genes), float64."""
    regulators: np.ndarray
    """Columns of the regulators."""
    targets: np.ndarray
    """Columns of the targets, some of which may be regulators."""

    @classmethod
    def of(cls, values: np.ndarray, regulators: np.ndarray, targets: np.ndarray) -> Panel:
        """The panel of an array of shape (n_cells, n_genes)."""
        return cls(standardised(values.astype(np.float64)), regulators, targets)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.values)

    @property
    def itself(self) -> np.ndarray:
        """Whether regulator and target are the same gene, an array of shape (n_regulators, n_targets), bool."""
        return self.regulators[:, None] == self.targets[None, :]

    def shuffled(self, rng: np.random.Generator) -> Panel:
        """Every gene permuted over the cells."""
        return replace(self, values=rng.permuted(self.values, axis=0))

    def resampled(self, rng: np.random.Generator) -> Panel:
        """As many cells, drawn with replacement."""
        rows = rng.integers(0, self.n_cells, self.n_cells)
        return replace(self, values=standardised(self.values[rows]))


def standardised(values: np.ndarray) -> np.ndarray:
    """Each column with mean 0 and variance 1, or 0 where it is constant."""
    values = values - values.mean(axis=0)
    deviation = values.std(axis=0)
    constant = deviation <= TINY
    values[:, constant] = 0
    return values / np.where(constant, 1, deviation)
