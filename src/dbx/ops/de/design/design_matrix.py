"""What a coded design is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Design:
    """A design matrix of full rank with the names of its columns."""

    formula: str | None
    """None for a matrix that was given."""
    matrix: np.ndarray
    """Array of shape (n_samples, n_coefficients), float64."""
    names: tuple[str, ...]
    frame: Any = None
    """The columns as a DataFrame, factors as categoricals."""
    spec: Any = None
    """What formulaic remembers of the coding, to code other rows alike."""
    notes: tuple[str, ...] = ()
    """What is doubtful about the columns, in sentences."""

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"the design {self.formula}" if self.formula else "the design matrix"
